"""Two versions of cadseg side by side, in turn, on the same affinities.

    python tests/benchmarks/versions.py AFFINITIES OTHER_CADSEG [RUNS [KEY=VALUE ...]]

OTHER_CADSEG is the command of the other version, in its own environment. Printed are seconds of the
blocks per kind of step, of the whole command on the clock, and of all its processes' cores: the
least of the runs of each version; and ours to the other, run by run: the median and the extremes.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAME_KIND = {"resolve": "resolve_up", "settle": "resolve_down", "weigh": "absorb_small"}
"""Kinds of steps that had other names once."""


def main() -> None:
    """A row per kind of step, and for the whole command."""
    affinities, other, *rest = sys.argv[1:]
    commands = {"ours": str(Path(sys.executable).with_name("cadseg")), "other": other}
    runs, changes = int(rest[0]) if rest else 5, rest[1:]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for turn in range(runs + 1):  # the first one warms up
        for name, command in commands.items():
            seconds = measured(command, affinities, changes)
            if turn:
                found[name].append(seconds)
    print(f"{'':<16}{'ours':>8}{'other':>8}   ours / other: median (least, most)")
    for what in found["ours"][0]:
        if any(what not in one for one in found["other"]):
            continue  # a kind of step that the other version has not
        pairs = [(a[what], b[what]) for a, b in zip(*found.values(), strict=True)]
        ratios = [a / b for a, b in pairs]
        least = [min(side) for side in zip(*pairs, strict=True)]
        print(
            f"{what:<16}{least[0]:>8.2f}{least[1]:>8.2f}   {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f}, {max(ratios):.3f})"
        )


def measured(command: str, affinities: str, changes: list[str]) -> dict[str, float]:
    """Seconds of one run with one worker, from affinities to segmentation."""
    out = Path(tempfile.mkdtemp()) / "out.zarr"
    sets = [word for change in changes for word in ("--set", change)]
    words = [command, "segment", affinities, "--out", str(out), "--config", "ssem", *sets]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        words,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {f"{n}_NUM_THREADS": "1" for n in ("OMP", "NUMBA", "OPENBLAS", "MKL")},
    )
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds: dict[str, float] = {}
    for step in sorted((out / "records").iterdir()):
        kind = step.name.rpartition("-")[0] or step.name
        kind = SAME_KIND.get(kind, kind)
        records = [path.read_text().splitlines()[0] for path in step.rglob("*.json")]
        spent = sum(json.loads(record)["seconds"] for record in records)
        seconds[kind] = seconds.get(kind, 0) + spent
    shutil.rmtree(out.parent)
    cores = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds | {"blocks": sum(seconds.values()), "wall": wall, "cores": cores}


if __name__ == "__main__":
    main()
