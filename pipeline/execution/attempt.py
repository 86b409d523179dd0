"""One attempt at one block, in the process that computes it: noted, logged, and ended in time.

An attempt leaves a note before it starts (`cadseg.pipeline.execution.notes`), so that a process
that dies without a word is not forgotten: its attempt counts like any other.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.blocks import Zyx, cell_name
from cadseg.pipeline.execution.notes import clear_notes, read_note, write_note
from cadseg.pipeline.execution.reports import report
from cadseg.workers.process import process
from cadseg.workers.records import LostBlockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cadseg.workers.step import Step
    from cadseg.workers.store import Store

SLOWER = 20  # times the slowest block so far: a block that takes longer is stuck
LEAST = 600.0  # seconds that every block may take
UNKNOWN = 86_400.0  # seconds that a block may take while none was ever measured


class ExhaustedError(Exception):
    """A block has had all its attempts."""


@dataclass
class Pace:
    """How long blocks took so far."""

    seconds: float = 0.0
    per_voxel: float = 0.0

    def measure(self, seconds: float, voxels: int) -> None:
        """Count in one finished block."""
        self.seconds = max(self.seconds, seconds)
        self.per_voxel = max(self.per_voxel, seconds / max(1, voxels))

    def limit(self, voxels: int) -> float:
        """Seconds after which a block of so many voxels is taken to be stuck."""
        slowest = max(self.seconds, self.per_voxel * voxels)
        return max(LEAST, SLOWER * slowest) if slowest else UNKNOWN


def attempt(
    store: Store, step: Step, cell: Zyx, *, retries: int, limit: float | None, log: str
) -> None:
    """Try the block of `step` at `cell`; raises what it raises.

    Args:
        store: the run.
        step: what to compute.
        cell: where.
        retries: attempts after the first; one more raises `ExhaustedError`.
        limit: seconds after which the kernel ends this process; None for no limit.
        log: name of the file that gets the traceback of an error.
    """
    note = read_note(store.files, step, cell)
    number = int(note["attempt"]) + 1 if note else 1
    if number > retries + 1:
        raise ExhaustedError(f"{step.name} block {cell} failed {retries + 1} times")
    write_note(store.files, step, cell, attempt=number, log=log)
    try:
        with _alarm(limit):
            process(store, step, cell)
    except LostBlockError as error:  # of another block: that does not count as an attempt, either
        report(store.files, error)
        clear_notes(store.files, step, [cell])
        raise
    except (Exception, SystemExit) as error:
        where = f"{step.name} block {cell_name(cell)}, attempt {number}"
        with store.files.local(log).open("a", encoding="utf-8") as file:
            file.write(f"{time.ctime()} {where} failed:\n{traceback.format_exc()}\n")
        write_note(store.files, step, cell, attempt=number, log=log, error=error)
        raise
    except BaseException:  # stopped from outside: that does not count as an attempt
        clear_notes(store.files, step, [cell])
        raise
    clear_notes(store.files, step, [cell])


@contextlib.contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    # the kernel ends the process, even one that is stuck in C with the interpreter's lock
    if seconds is None:
        yield
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Patience:
    """Leaves, cleanly, when this process waits for work longer than `seconds`.

    A waiting worker holds one of the run's places. Where a worker of an upstream step dies, the
    places can all be held by workers that wait for the block it had: nobody would ever move.
    """

    def __init__(self, seconds: float, leave: Callable[[], object]) -> None:
        """Start to watch; nothing waits yet."""
        self._seconds = seconds
        self._leave = leave
        self._since: float | None = None
        threading.Thread(target=self._loop, daemon=True).start()

    @contextlib.contextmanager
    def waiting(self, now: bool) -> Iterator[None]:
        """Whether the process waits for work in this context."""
        before, self._since = self._since, time.monotonic() if now else None
        try:
            yield
        finally:
            self._since = before and time.monotonic()

    def _loop(self) -> None:
        while True:
            time.sleep(0.25)
            since = self._since
            if since is not None and time.monotonic() - since > self._seconds:
                self._leave()
