"""The progress of a run: bars on a terminal, otherwise one line per finished step."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

POLL = 0.1  # seconds; updates that come closer together count as simultaneous


@dataclass
class _Step:
    total: int
    voxels: int
    bar: TaskID | None
    started: float


class Progress:
    """One bar per step: blocks done, voxels per second, time left.

    If standard output or error is not a terminal: one line when a step is finished.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        """Show nothing at all if `quiet`."""
        self._quiet = quiet
        self._steps: dict[str, _Step] = {}
        self._bars: RichProgress | None = None
        self._now = self._before = 0.0

    def start(self, step: str, *, done: int, total: int, voxels: int) -> None:
        """A step starts, with `done` of `total` blocks done before and `voxels` left."""
        self._now = self._before = time.monotonic()
        if not self._quiet and sys.stdout.isatty() and sys.stderr.isatty() and not self._bars:
            columns = ("{task.description}", BarColumn(), MofNCompleteColumn())
            text = TextColumn("{task.fields[speed]}")
            self._bars = RichProgress(*columns, text, console=Console(stderr=True))
            self._bars.start()
        bar = None
        if self._bars is not None:
            bar = self._bars.add_task(step, completed=done, total=total, speed="")
        self._steps[step] = _Step(total, voxels, bar, started=0.0)

    def update(self, step: str, *, done: int, voxels: int) -> None:
        """`done` blocks of the step are done in all, `voxels` voxels since it started."""
        known = self._steps[step]
        now = time.monotonic()
        if now - self._now > POLL:
            self._before, self._now = self._now, now
        # a step's time starts with the last update before its first block was done
        known.started = known.started or self._before
        text = speed(voxels, known.voxels, now - known.started)
        if self._bars is not None and known.bar is not None:
            self._bars.update(known.bar, completed=done, speed=text)
        elif done == known.total and not self._quiet:
            print(f"{step}: {done} blocks done, {text}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Remove the bars: the run has ended."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def speed(voxels: int, of: int, seconds: float) -> str:
    """Voxels per second and time left, in words."""
    rate = voxels / max(seconds, 1e-3)
    text = f"{rate / 1e6:.2f} Mvoxel/s" if rate >= 1e4 else f"{rate:.0f} voxel/s"
    if 0 < voxels < of:
        text += f", {span((of - voxels) / rate)} left"
    return text


def span(seconds: float) -> str:
    """A time span in words."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
