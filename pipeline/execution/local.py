"""Workers on this machine: forks of a fork server, or fresh processes where there is none.

A launcher (`cadseg.pipeline.execution.launcher`), used in a light process that daisy starts for
each worker. So this file imports only what Python brings along.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.pipeline.execution.forkserver import ForkServer, open_fork_server
from cadseg.pipeline.execution.launcher import COMMAND

if TYPE_CHECKING:
    from cadseg.pipeline.execution.launcher import WorkerProcess


@dataclass(frozen=True)
class Local:
    """Starts workers on this machine, that end with the process that started them.

    Attributes:
        server: None where the system has none; then every worker starts from nothing.
    """

    server: ForkServer | None

    def start(self, message: bytes) -> WorkerProcess:
        """Start a worker that is given `message`."""
        if self.server is not None:
            with contextlib.suppress(ConnectionError):  # it was killed: nothing is lost but time
                return self.server.fork(message)
        return Fresh(message)

    def close(self) -> None:
        """End the fork server."""
        if self.server is not None:
            self.server.close()


class Fresh:
    """A worker in a new process, which ends with this one."""

    def __init__(self, message: bytes) -> None:
        """Start it, and give it `message`."""
        self._process = subprocess.Popen([*COMMAND, str(os.getpid())], stdin=subprocess.PIPE)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(message)

    def alive(self, within: float) -> bool:
        """Whether it still lives; where it does, the answer comes after `within` seconds."""
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return True
        return False

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def local() -> Local:
    """Get ready to start workers here; the calling process must not have any thread yet."""
    return Local(open_fork_server(_prepare, _work))


def _prepare() -> None:
    from cadseg.pipeline.execution import worker  # noqa: F401
    from cadseg.pipeline.execution.preload import preload

    preload()


def _work(message: bytes) -> None:
    from cadseg.pipeline.execution.worker import work

    work(message)
