"""A run folder for tests of execution, and the run in a process of its own.

``python toy_run.py OUT STEPS WORKERS LAUNCHER``: `run_steps` there; exit code 130 where stopped.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import toy_block
import toy_launcher
from in_memory import of_affinities

from cadseg.blocks import Roi, cell_name, zyx
from cadseg.pipeline.execution.driver import LAUNCHERS, Execution, run_steps
from cadseg.pipeline.execution.progress import Progress
from cadseg.storage.local_files import LocalFiles
from cadseg.workers import manifest
from cadseg.workers.manifest import Origin
from cadseg.workers.step import Step, StepKind
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence


def folder(
    out: Path,
    *,
    shape: tuple[int, int, int] = (20, 20, 20),
    roi: Sequence[Sequence[int]] | None = None,
    block: tuple[int, int, int] = (10, 10, 10),
    stages: tuple[str, ...] = ("toy",),
    **ways: object,
) -> Path:
    """A run folder in `out`, with blocks of `block` voxels, that behaves in these `ways`."""
    out.mkdir(parents=True, exist_ok=True)
    sets = [f"block_shape={list(block)}"]
    begin, end = zip(*(roi or ((0, n) for n in shape)), strict=True)
    domain = Roi(zyx(begin), zyx(end))
    made = of_affinities(shape, domain, sets)
    origins = {stage: Origin(identity="abc", inputs={}) for stage in stages}
    made = made.model_copy(update={"stages": origins})
    manifest.write(LocalFiles(out), made)
    behave(out, **ways)
    return out


def behave(out: Path, **ways: object) -> None:
    """From now on, blocks behave in these `ways`."""
    (out / "toy.json").write_text(json.dumps(ways))


def step(name: str, *after: str, level: int = 0, halo: tuple[int, int, int] = (0, 0, 0)) -> Step:
    """A step of toy blocks."""
    kind = StepKind(name=name, run=partial(toy_block.run, name), cost=toy_block.cost)
    return Step(kind, "toy", level=level, halo=halo, after=after)


def quiet(**how: Any) -> Execution:
    """An execution that prints nothing."""
    return Execution(progress=Progress(quiet=True), **how)


# down and up the levels, with halos, on a domain that begins in the middle of cells
AWRY: dict[str, Any] = {"shape": (41, 37, 33), "roi": [[13, 41], [5, 30], [9, 33]]}
UP_AND_DOWN = [
    step("a"),
    step("b", "a", level=1, halo=(3, 3, 3)),
    step("c", "b", level=2),
    step("d", "c", level=1, halo=(0, 4, 0)),
    step("e", "d", "a", halo=(2, 2, 2)),
]


def violations(out: Path, steps: list[Step]) -> int:
    """Blocks that began before a block that they read was done."""
    grid = Store.open(out).grid
    known = {step.name: step for step in steps}
    begun, ended = {}, {}
    for line in (out / "toy.log").read_text().splitlines():
        name, key, begin, end, _, how = line.split()
        begun[name, key] = min(float(begin), begun.get((name, key), np.inf))
        if how == "done":
            ended[name, key] = float(end)
    wrong = 0
    for (name, key), begin in begun.items():
        step = known[name]
        read = grid.block(step.level, tuple(map(int, key.split("."))), step.halo).read
        for up in step.after:
            for cell in grid.cells(known[up].level):
                meets = grid.block(known[up].level, cell).write.clipped(read).size > 0
                wrong += meets and ended[up, cell_name(cell)] > begin
    return wrong


def begin(
    out: Path, steps: list[Step], workers: int = 2, launcher: str = "local"
) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own."""
    (out / "steps").write_bytes(pickle.dumps(steps))
    words = (out, out / "steps", workers, launcher)
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # tests that run in the background ignore SIGINT, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def until_under_way(out: Path) -> None:
    """Wait until blocks are computed."""
    while not (out / "toy.log").exists():
        time.sleep(0.02)


def children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """All processes below a run."""
    return psutil.Process(process.pid).children(recursive=True)


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    found = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def main() -> None:
    """Run pickled steps."""
    out, steps, workers, launcher = *map(Path, sys.argv[1:3]), int(sys.argv[3]), sys.argv[4]
    LAUNCHERS.update(toy_launcher.LAUNCHERS)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run in background
    try:
        run_steps(out, pickle.loads(steps.read_bytes()), quiet(workers=workers, launcher=launcher))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
