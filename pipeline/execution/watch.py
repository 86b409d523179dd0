"""A run seen from the process that asked for it: its progress, its end, and how it is stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import psutil

from cadseg.errors import StageError
from cadseg.pipeline.execution.guard import FATAL
from cadseg.pipeline.execution.notes import clear_notes, notes
from cadseg.pipeline.execution.records import ENOUGH, loose_cells, pack, rows_in, super_cells
from cadseg.storage.checksums import DamagedError
from cadseg.workers.names import super_cell

if TYPE_CHECKING:
    import types
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cadseg.blocks import Zyx
    from cadseg.pipeline.execution.done import Done
    from cadseg.pipeline.execution.guard import Guard
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store

POLL = 0.25  # seconds between two looks at the records


class Interrupted(KeyboardInterrupt):
    """The run was stopped by Ctrl-C or SIGTERM; what is finished is kept."""


class Show(Protocol):
    """What is told about the progress of a run."""

    def start(self, step: str, *, done: int, total: int, voxels: int) -> None:
        """A step begins with `done` of `total` blocks, and `voxels` to do."""

    def update(self, step: str, *, done: int, voxels: int) -> None:
        """So many blocks are done, with so many voxels in this run."""

    def stop(self) -> None:
        """The run is over."""


class Watch:
    """Looks at the records of a run while it goes.

    Attributes:
        done: the blocks that are done, per step.
    """

    def __init__(
        self,
        store: Store,
        steps: Sequence[Step],
        done: Mapping[str, Done],
        show: Show,
        workers: int,
    ) -> None:
        """Watch `steps` in `store`, of which `done` is done."""
        self.done = done
        self._store = store
        self._steps = steps
        self._show = show
        self._enough = max(2 * workers, 8)
        self._before = {name: len(found) for name, found in done.items()}
        self._voxels = {name: found.voxels for name, found in done.items()}
        self._fresh: Counter[tuple[str, Zyx]] = Counter()
        for step in steps:
            total, found = store.grid.count(step.level), done[step.name]
            left = store.grid.domain.size - found.voxels
            show.start(step.name, done=len(found), total=total, voxels=left)

    def finished(self, step: Step, cell: Zyx) -> None:
        """Count in a block that is done; where a super-cell has enough of them, pack them."""
        self._count(step, cell)
        above = super_cell(cell)
        self._fresh[step.name, above] += 1
        done, total = self.done[step.name].within(above)
        if done >= ENOUGH and (self._fresh[step.name, above] >= ENOUGH or done == total):
            del self._fresh[step.name, above]
            self._pack(step, above)

    def look(self) -> bool:
        """Count in all blocks that got done since the last look; whether the run is failing."""
        for step in self._steps:
            done = self.done[step.name]
            if len(done) == self._store.grid.count(step.level):
                continue
            for above in super_cells(self._store.files, step.name):
                some, total = done.within(above)
                cells = loose_cells(self._store.files, step.name, above) if some < total else ()
                for cell in cells:
                    if done.meets(cell) and cell not in done:
                        self.finished(step, cell)
        return self.failing()

    def _pack(self, step: Step, above: Zyx) -> None:
        cells = loose_cells(self._store.files, step.name, above)
        with contextlib.suppress(DamagedError):  # of an older pack; whoever needs it will miss it
            rows = rows_in(self._store, step, above, cells)
            for cell in pack(self._store, step, above, rows, cells):
                if cell not in self.done[step.name]:
                    self._count(step, cell)

    def _count(self, step: Step, cell: Zyx) -> None:
        done = self.done[step.name]
        done.add(cell, self._store.grid.block(step.level, cell).write.size)
        voxels = done.voxels - self._voxels[step.name]
        self._show.update(step.name, done=len(done), voxels=voxels)

    def forget(self) -> None:
        """Forget the attempts that were going on when the run was ended: they did not fail."""
        for step in self._steps:
            noted = notes(self._store.files, step).items()
            ended = [cell for cell, note in noted if note["error"] is None]
            clear_notes(self._store.files, step, ended)

    def check(self) -> None:
        """Raise the error of a block that every other block would have, too."""
        for step in self._steps:
            for note in notes(self._store.files, step).values():
                if note.get("errno") in FATAL:
                    raise OSError(note["errno"], os.strerror(note["errno"]))

    def failing(self) -> bool:
        """Whether there is a step of which the first attempts of this run all failed."""
        return any(self._failing(step) for step in self._steps)

    def _failing(self, step: Step) -> bool:
        before = self._before[step.name]
        todo = self._store.grid.count(step.level) - before
        if len(self.done[step.name]) > before or todo <= self._enough:
            return False
        noted = notes(self._store.files, step).values()
        failed = sum(int(note["attempt"]) - (note["error"] is None) for note in noted)
        return failed >= self._enough


@contextlib.contextmanager
def stoppable(*, at_once: bool) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the list, or raise `Interrupted` where they come."""
    stop: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread sees signals
        return

    def handle(number: int, frame: types.FrameType | None) -> None:
        stop.append(number)
        if at_once:
            raise Interrupted

    heard = [signal.SIGINT, signal.SIGTERM]
    heard = [number for number in heard if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow(
    server: subprocess.Popen[bytes], watch: Watch, guard: Guard, stop: Sequence[int], log: Path
) -> None:
    """Wait until `server` ends; end it, and its process group, on a signal or a failing run.

    Raises:
        OSError: nothing can be written any more, or the disk does not answer.
        StageError: the server failed.
        Interrupted: by a signal.
    """
    failing = False
    try:
        while server.poll() is None and not stop and not failing:
            started = time.monotonic()
            failing = guard.wait(watch.look)
            cost = time.monotonic() - started
            until = started + max(POLL, 10 * cost)
            while server.poll() is None and not stop and time.monotonic() < until:
                time.sleep(0.05)
        code = server.poll()
        guard.wait(watch.look)
    finally:
        _end(server)
    if stop or failing:
        guard.wait(watch.forget)
    if stop:
        raise Interrupted
    if code:
        guard.check()
        last = (log.read_text("utf-8", "replace").splitlines() or ["no output"])[-1]
        raise StageError(f"the server of the blocks ended with code {code} ({last}); see {log}")


def _end(server: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a disk
        server.wait(5)
    # its workers are nobody's children now: wait until the kernel has ended them, too
    for _ in range(100):
        if not any(_group(process) == server.pid for process in psutil.process_iter()):
            return
        time.sleep(0.05)


def _group(process: psutil.Process) -> int:
    try:
        return 0 if process.status() == psutil.STATUS_ZOMBIE else os.getpgid(process.pid)
    except (psutil.NoSuchProcess, ProcessLookupError, PermissionError):
        return 0
