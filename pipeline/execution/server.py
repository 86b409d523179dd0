"""The server: the process of a run that holds daisy, and hands its blocks to workers.

daisy is the queue of blocks: it knows which blocks of which steps there are, hands
out one as soon as the blocks upstream that it reads are done, and hands out again one that failed
or whose worker died. All else is ours. What is done is said by our records: daisy is told so when
it starts, is not believed at the end, and keeps nothing on a disk. Attempts are counted by our
notes, stuck blocks are ended by our alarm, and workers are started by a launcher; daisy's own
limits are set out of reach.

The server leads a process group with everything below it, so that one signal ends a run.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cadseg.blocks import Grid, Roi, zyx
from cadseg.pipeline.execution.forkserver import die_with
from cadseg.pipeline.execution.stub import Stub
from cadseg.pipeline.execution.worker import Worker
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cadseg.blocks import Zyx
    from cadseg.pipeline.execution.attempt import Pace
    from cadseg.pipeline.execution.launcher import Launcher
    from cadseg.pipeline.execution.waves import Part
    from cadseg.workers.step import Step

# Seconds that a worker waits for work before it leaves its place to another step, and more where
# many ask at once. On two cores and 252 Mvoxel, 0.5 took 18 s where 5 took 24.
PATIENCE, PER_WORKER = 0.5, 0.25
NEVER = 30 * 86_400.0  # daisy's own time limit; ours is in `attempt`


@dataclass(frozen=True)
class ServerConfig:
    """What the server is told.

    Attributes:
        out: where the run lies.
        wave: the blocks to do.
        paces: of the blocks that are done, per step.
        workers: processes that compute at the same time.
        retries: how often a failed block is tried again.
        timeout: seconds that a block may take; None for a limit from the blocks measured so far.
        launcher: makes what starts the workers.
        parent: the process that started the server, and with which it ends.
    """

    out: str
    wave: Sequence[Part]
    paces: Mapping[str, Pace]
    workers: int
    retries: int
    timeout: float | None
    launcher: Callable[[], Launcher]
    parent: int


def serve() -> None:
    """Have the blocks computed that standard input tells of: what the server's process does."""
    config: ServerConfig = pickle.load(sys.stdin.buffer)
    die_with(config.parent)
    import daisy.logging
    import daisy.v2  # before the launcher, which may fork

    with contextlib.closing(config.launcher()) as launcher:
        daisy.logging.set_log_basedir(None)  # ours are in OUT/logs, one per worker process
        store = Store.open(config.out)
        tasks = {part.step.name: _task(store, config, part, launcher) for part in config.wave}
        edges = [
            (tasks[up], tasks[part.step.name]) for part in config.wave for up in part.step.after
        ]
        daisy.v2.Server().run_blockwise(
            daisy.v2.Pipeline(list(tasks.values()), edges),
            resources={"process": config.workers},
            progress=False,
            host="127.0.0.1",
            summary=False,
        )


def geometry(grid: Grid, step: Step, begin: Zyx, end: Zyx) -> tuple[Roi, Roi, Roi]:
    """What daisy calls total, read and write roi, of the blocks from `begin` to `end`.

    The write rois are the cells of the grid that meet the domain, whole. daisy's total roi is what
    may be *read*, so it is grown by the halo; else blocks at the border would not be written.
    """
    shape = grid.cell_shape(step.level)
    first, last = (
        zyx(c * n for c, n in zip(corner, shape, strict=True)) for corner in (begin, end)
    )
    write = Roi((0, 0, 0), shape)
    total = Roi(first, last)
    return total.grown(step.halo, step.halo), write.grown(step.halo, step.halo), write


def _task(store: Store, config: ServerConfig, part: Part, launcher: Launcher) -> Any:
    import daisy.v2
    from funlib.geometry.roi import Roi as DaisyRoi

    step, done = part.step, part.done
    boxes = geometry(store.grid, step, part.begin, part.end)
    total, read, write = (DaisyRoi(roi.begin, roi.shape) for roi in boxes)
    worker = Worker(
        out=config.out,
        step=step,
        retries=config.retries,
        timeout=config.timeout,
        pace=config.paces[step.name],
        patience=max(PATIENCE, PER_WORKER * config.workers),
    )
    left = int(done.size - done.sum())
    return daisy.v2.Task(
        step.name,
        total_roi=total,
        read_roi=read,
        write_roi=write,
        process_function=Stub(pickle.dumps(worker), os.getpid(), launcher),
        read_write_conflict=False,
        fit="overhang",
        max_workers=min(config.workers, left),
        requires={"process": 1},
        # attempts are counted by us: daisy also counts a block handed to a worker that just left
        max_retries=config.retries + 8 + 4 * config.workers,
        # a worker that leaves for want of work counts as a restart, too
        max_worker_restarts=left * (config.retries + 1) + 10_000_000,
        timeout=NEVER,
        skip_mask=done,
    )
