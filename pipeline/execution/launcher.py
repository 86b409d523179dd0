"""What starts worker processes: the seam between the server and where blocks are computed.

A launcher is made in the server's process, and used there or in a process below it, into which it
is pickled. All that it must know of a worker is `COMMAND` and a *message*: the bytes from which the
worker learns its run and how to reach its server, and which it reads from its standard input. So a
batch system is one more file with these two classes, and one more row in `driver.LAUNCHERS`.

A worker ends by itself when it finds no more work or its server has gone, so `stop` is for those
that would not, and a launcher need not outlive the server. daisy's server listens on this machine
alone, because whoever reaches it is believed: until workers are asked for a key, a launcher must
not leave the machine.
"""

from __future__ import annotations

import sys
from typing import Protocol

COMMAND = (sys.executable, "-m", "cadseg.pipeline.execution.worker")
"""Starts a worker; its standard input is its message, all of it, up to the end."""


class WorkerProcess(Protocol):
    """A worker that was started, wherever it is."""

    def alive(self, within: float) -> bool:
        """Whether it still lives; where it does, the answer comes after `within` seconds."""

    def stop(self) -> None:
        """End it, whatever it does; a worker that has ended is no error."""


class Launcher(Protocol):
    """Starts workers of one run."""

    def start(self, message: bytes) -> WorkerProcess:
        """Start a worker that is given `message`; it may begin much later, as in a queue."""

    def close(self) -> None:
        """No worker will be started any more: free what the launcher holds."""
