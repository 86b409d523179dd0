"""The table of a benchmark, and where and when it was measured."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beside.ours import Cost

RESULTS = Path(__file__).resolve().parents[1] / "results.md"
HEADING = "## Beside others"


class Table:
    """Rows of figure and value, in order; and speeds per core, for ratios."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.rows: list[tuple[str, str]] = []
        self.speeds: dict[str, float] = {}

    def add(self, figure: str, value: str) -> None:
        """One more row, told at once."""
        self.rows.append((figure, value))
        print(f"{figure}: {value}", file=sys.stderr)

    def add_speed(self, who: str, megavoxels: float, cost: Cost, workers: int) -> None:
        """Mvoxel/s of a command, and what it takes of the cores."""
        self.speeds[who] = megavoxels / cost.wall / workers
        self.add(f"{who}, Mvoxel/s", f"{megavoxels / cost.wall:.2f}")
        self.add(f"{who}, core seconds per Mvoxel", f"{cost.cores / megavoxels:.3f}")

    def add_ratio(self, who: str, other: str) -> None:
        """How much faster `who` is per core, where both were measured."""
        if who in self.speeds and other in self.speeds:
            ratio = self.speeds[who] / self.speeds[other]
            self.add(f"{who}, to {other}, per core", f"{ratio:.2f}")

    def __str__(self) -> str:
        """The table in Markdown."""
        rows = [("figure", "value"), ("---", "---"), *self.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def about(load: float) -> str:
    """Command, commit, date and machine in one sentence; `load` is that before the start."""
    words = shlex.join(["python", "tests/benchmarks/versus.py", *sys.argv[1:]])
    command = re.sub(r" --write| --scratch[ =]\S+", "", words)  # change no figure
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"`{command}`, commit {_commit()}, {datetime.date.today()}; {os.cpu_count()} cores of "
        f"{_processor()}, {memory:.0f} GiB, Python {platform.python_version()}; load before "
        f"the start {load:.1f}."
    )


def write(text: str) -> None:
    """Replace our section of the results, or append it."""
    before, _, after = RESULTS.read_text().partition(f"\n{HEADING}\n")
    _, following, rest = after.partition("\n## ")
    RESULTS.write_text(f"{before.rstrip()}\n\n{HEADING}\n\n{text}\n{following}{rest}")


def _commit() -> str:
    words = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(
        words, cwd=RESULTS.parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    return found or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
