"""A worker: the process that computes blocks, of one step, until there are no more.

Started by a launcher, as a fork or by ``python -m`` of this file, with its message on standard
input. It asks daisy's server for blocks, and leaves when that has none, or has gone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.blocks import zyx
from cadseg.pipeline.execution.attempt import Pace, Patience, attempt
from cadseg.pipeline.execution.forkserver import die_with
from cadseg.pipeline.execution.stub import CONTEXT
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cadseg.workers.step import Step


@dataclass
class Worker:
    """What a worker does.

    Attributes:
        out: where the run lies.
        step: whose blocks.
        retries: how often a failed block is tried again.
        timeout: seconds that a block may take; None for a limit from the blocks measured so far.
        pace: of the blocks measured so far.
        patience: seconds that it waits for work.
    """

    out: str
    step: Step
    retries: int
    timeout: float | None
    pace: Pace
    patience: float

    def __call__(self) -> None:
        """Ask for blocks and try them; an error fails the block, and the worker goes on."""
        import daisy.logging
        import daisy.v2

        store = Store.open(self.out)
        log = self._log(store)
        client = daisy.v2.Client()
        daisy.logging.set_log_level("CRITICAL")  # errors are logged by `attempt`, once
        daisy.logging.set_log_basedir(store.files.local(log).parent)
        daisy.logging.set_log_mode("file")
        patience = Patience(self.patience, functools.partial(os._exit, 0))
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


def work(message: bytes) -> None:
    """Be the worker that a stub's `message` describes."""
    os.environ[CONTEXT], worker = pickle.loads(message)
    pickle.loads(worker)()


def main() -> None:
    """Be the worker that standard input describes; end with the process of the argument, if any."""
    for parent in sys.argv[1:]:
        die_with(int(parent))
    work(sys.stdin.buffer.read())


if __name__ == "__main__":
    main()
