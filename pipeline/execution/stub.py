"""What daisy runs as a worker: a light process that has the worker started, and lives as long.

daisy starts a process of its own for each worker of each step. A stub asks the launcher for the
real one, and waits for it. This file imports only what Python brings along.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.pipeline.execution.forkserver import die_with

if TYPE_CHECKING:
    from cadseg.pipeline.execution.launcher import Launcher

CONTEXT = "DAISY_CONTEXT"  # where daisy tells a process which worker it is, and of which server
LOOK = 3600.0  # seconds; a worker's end is seen at once


@dataclass(frozen=True)
class Stub:
    """A stand-in for one worker.

    Attributes:
        worker: the pickled `cadseg.pipeline.execution.worker.Worker`.
        parent: the server's process.
        launcher: starts the worker.
    """

    worker: bytes
    parent: int
    launcher: Launcher

    def __call__(self) -> None:
        """Have the work done."""
        die_with(self.parent)
        process = self.launcher.start(pickle.dumps((os.environ[CONTEXT], self.worker)))
        try:
            while process.alive(LOOK):
                pass
        finally:
            process.stop()
