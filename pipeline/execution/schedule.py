"""All blocks of all steps, in order: the only file that imports daisy.

daisy 2 plans the blocks, hands them to worker processes, and starts a block as soon as the blocks
upstream that it reads are done. What is done is decided by our records
(`cadseg.pipeline.execution.status`), before, during and after the run; daisy's own tracking only
keeps what each block cost.

daisy's server runs in a process of its own, which leads a process group with all workers in it. So
a run can be stopped at any moment, by one signal to the group, and the caller's process keeps its
signal handlers, its streams and its memory.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadseg.blocks import Grid, Roi, Zyx, zyx
from cadseg.pipeline.execution import status
from cadseg.pipeline.execution.attempt import Pace, Patience, attempt
from cadseg.pipeline.execution.forkserver import Errand, Nursery, die_with, open_nursery
from cadseg.pipeline.execution.serial import run_serial, unfinished
from cadseg.pipeline.execution.tracking import base_of, folder_of, mask_of
from cadseg.pipeline.execution.watch import (
    Interrupted,
    Show,
    StepOutcome,
    Watch,
    check,
    follow,
    outcome,
    stoppable,
)
from cadseg.storage.files import resolved
from cadseg.workers.preload import preload
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cadseg.workers.process import Step

__all__ = ["Interrupted", "Show", "StepOutcome", "check", "run_steps"]

# Seconds that a worker waits for work before it leaves its place to another step, and more where
# many ask at once. On two cores and 252 Mvoxel, 0.5 took 18 s where 5 took 24.
PATIENCE, PER_WORKER = 0.5, 0.25
NEVER = 30 * 86_400.0  # daisy's own time limit; ours is in `attempt`


@dataclass(frozen=True)
class Job:
    """What the server process is told."""

    out: str
    steps: Sequence[Step]
    done: Mapping[str, frozenset[Zyx]]
    paces: Mapping[str, Pace]
    workers: int
    retries: int
    timeout: float | None
    tracking: Path
    parent: int


def run_steps(
    out: str | Path,
    steps: Sequence[Step],
    *,
    workers: int,
    serial: bool = False,
    retries: int = 2,
    timeout: float | None = None,
    tracking: Path | None = None,
    show: Show,
    order: int | None = None,
) -> dict[str, StepOutcome]:
    """Compute every block of `steps` that is not done yet.

    Args:
        out: where the run lies.
        steps: in any order; `Step.after` may name steps that are not among them.
        workers: processes that compute at the same time.
        serial: compute in this process, one block after the other.
        retries: how often a failed block is tried again.
        timeout: seconds that a block may take; None for a limit from the blocks measured so far.
        tracking: a folder on a local disk for daisy's tracking; None for the run's own.
        show: told about the progress.
        order: seed that shuffles the blocks of a serial run; None for the plan's order.
    """
    store = Store.open(resolved(out))
    found = {step.name: status.records(store, step, prune=True) for step in steps}
    for step in steps:
        status.clear_notes(store.files, step)
    todo = unfinished(store.grid, steps, found)
    watch = Watch(store, todo, {name: set(cells) for name, cells in found.items()}, show, workers)
    with stoppable(at_once=serial) as stop, contextlib.ExitStack() as stack:
        stack.callback(show.stop)
        if serial:
            run_serial(store, todo, watch, retries=retries, order=order)
        elif todo:
            job = Job(
                out=store.files.url,
                steps=todo,
                done={step.name: frozenset(found[step.name]) for step in todo},
                paces={step.name: _pace(found[step.name].values()) for step in todo},
                workers=workers,
                retries=retries,
                timeout=timeout,
                tracking=base_of(store.files, tracking),
                parent=os.getpid(),
            )
            _run_apart(job, store.files.local("logs/scheduler.log"), watch, stop)
    return {step.name: outcome(store, step) for step in steps}


def _pace(records: Iterable[Mapping[str, Any]]) -> Pace:
    pace = Pace()
    for record in records:
        pace.measure(record["seconds"], record["voxels"])
    return pace


def _run_apart(job: Job, log: Path, watch: Watch, stop: Sequence[int]) -> None:
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    with log.open("ab") as sink:
        server = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=sink,
            env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )
    assert server.stdin is not None
    with contextlib.suppress(BrokenPipeError), server.stdin as pipe:
        pipe.write(pickle.dumps(job))
    follow(server, watch, stop, log)


# the server's process ------------------------------------------------------------------------


def geometry(grid: Grid, step: Step) -> tuple[Roi, Roi, Roi]:
    """What daisy calls total, read and write roi.

    The write rois are the cells of the grid that meet the domain, whole. daisy's total roi is what
    may be *read*, so it is grown by the halo; else blocks at the border would not be written.
    """
    shape = grid.cell_shape(step.level)
    begin, end = (
        zyx(c * n for c, n in zip(corner, shape, strict=True)) for corner in grid.span(step.level)
    )
    write = Roi((0, 0, 0), shape)
    total = Roi(begin, end)
    return total.grown(step.halo, step.halo), write.grown(step.halo, step.halo), write


def serve() -> None:
    """Run the job that comes on standard input: what the server's process does."""
    job: Job = pickle.load(sys.stdin.buffer)
    die_with(job.parent)
    daisy = _daisy()
    nursery = open_nursery(preload)
    daisy.logging.set_log_basedir(None)  # ours are in OUT/logs, one per worker process
    store = Store.open(job.out)
    tasks = {step.name: _task(store, job, step, nursery) for step in job.steps}
    edges = [(tasks[up], tasks[step.name]) for step in job.steps for up in step.after]
    daisy.v2.Server().run_blockwise(
        daisy.v2.Pipeline(list(tasks.values()), edges),
        resources={"process": job.workers},
        progress=False,
        host="127.0.0.1",
        summary=False,
    )
    if nursery is not None:
        nursery.close()


def _daisy() -> Any:
    # its functions have no types, and a command that runs no block should not wait for it
    import daisy.logging
    import daisy.v2

    return daisy


def _task(store: Store, job: Job, step: Step, nursery: Nursery | None) -> Any:
    from funlib.geometry.roi import Roi as DaisyRoi

    total, read, write = (DaisyRoi(roi.begin, roi.shape) for roi in geometry(store.grid, step))
    worker = Worker(
        out=job.out,
        step=step,
        retries=job.retries,
        timeout=job.timeout,
        pace=job.paces[step.name],
        patience=max(PATIENCE, PER_WORKER * job.workers),
    )
    done = mask_of(store.grid, step, job.done[step.name])
    left = int(done.size - done.sum())
    return _daisy().v2.Task(
        step.name,
        total_roi=total,
        read_roi=read,
        write_roi=write,
        process_function=Errand(pickle.dumps(worker), os.getpid(), nursery),
        read_write_conflict=False,
        fit="overhang",
        max_workers=min(job.workers, left),
        requires={"process": 1},
        # attempts are counted by us: daisy also counts a block handed to a worker that just left
        max_retries=job.retries + 8 + 4 * job.workers,
        # a worker that leaves for want of work counts as a restart, too
        max_worker_restarts=left * (job.retries + 1) + 10_000_000,
        timeout=NEVER,
        resource_tracking=True,
        tracking_path=str(folder_of(job.tracking, store, step, done)),
        skip_mask=done,
    )


# a worker's process --------------------------------------------------------------------------


@dataclass
class Worker:
    """What a worker process does: blocks of one step, until there are no more."""

    out: str
    step: Step
    retries: int
    timeout: float | None
    pace: Pace
    patience: float

    def __call__(self, leave: Callable[[], object]) -> None:
        """Ask for blocks and try them; an error fails the block, and the worker goes on.

        Args:
            leave: ends this process, cleanly, from any thread.
        """
        store = Store.open(self.out)
        log = self._log(store)
        daisy = _daisy()
        client = daisy.v2.Client()
        daisy.logging.set_log_level("CRITICAL")  # errors are logged by `attempt`, once
        daisy.logging.set_log_basedir(store.files.local(log).parent)
        daisy.logging.set_log_mode("file")
        patience = Patience(self.patience, leave)
        connected = True
        while connected:
            connected = False  # so it stays where the error below is none of a block
            with contextlib.suppress(Exception), patience.waiting(True):
                with client.acquire_block() as block:
                    if block is None:
                        return
                    connected = True
                    with patience.waiting(False):
                        self._try(store, block.write_roi.begin, log)

    def _try(self, store: Store, begin: Iterable[int], log: str) -> None:
        shape = store.grid.cell_shape(self.step.level)
        cell = zyx(b // n for b, n in zip(begin, shape, strict=True))
        voxels = store.grid.block(self.step.level, cell).write.size
        limit = self.timeout or self.pace.limit(voxels)
        started = time.monotonic()
        attempt(store, self.step, cell, retries=self.retries, limit=limit, log=log)
        self.pace.measure(time.monotonic() - started, voxels)

    def _log(self, store: Store) -> str:
        log = f"logs/{self.step.name}-{os.getpid()}.log"
        sink = os.open(store.files.local(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        return log
