"""Other launchers than the usual one, and the rows that make them known.

`Elsewhere` is what a batch system's would be: a worker is a process that runs the command that all
launchers run, in a session, a folder and an environment of its own, as ``srun`` would start it on
another node. The other is the usual one, where the system has no fork server.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial

from cadseg.pipeline.execution.launcher import COMMAND, WorkerProcess
from cadseg.pipeline.execution.local import Local


@dataclass(frozen=True)
class Elsewhere:
    """Starts workers that have nothing in common with the process that starts them."""

    def start(self, message: bytes) -> WorkerProcess:
        """Start a worker that is given `message`."""
        with tempfile.TemporaryFile() as file:
            file.write(message)
            file.seek(0)
            return _Worker(
                subprocess.Popen(
                    COMMAND,
                    stdin=file,
                    cwd="/",
                    env={name: os.environ[name] for name in ("PATH", "PYTHONPATH")},
                    start_new_session=True,
                )
            )

    def close(self) -> None:
        """There is nothing to let go."""


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[bytes]

    def alive(self, within: float) -> bool:
        """Whether it still lives; where it does, the answer comes after `within` seconds."""
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            return True
        return False

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


LAUNCHERS = {"elsewhere": Elsewhere, "fresh": partial(Local, None)}
