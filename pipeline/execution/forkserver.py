"""Processes that start at once, forked from one in which everything is loaded.

A fresh Python takes two seconds to import what a worker needs and to start numba; a run has a
dozen steps, and every step starts its own workers. So the server of a run forks a *fork server*
before it has any thread. Who wants a worker connects to it, and gets a fork of it that does the
work. This file imports only what Python brings along, because light processes import it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    Work = Callable[[bytes], object]

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ForkServer:
    """Where to ask for a process, and with which key: the address is no secret, the key is."""

    address: str
    key: bytes
    pid: int

    def fork(self, message: bytes) -> Fork:
        """Have the work that `message` describes done by a fork.

        Raises:
            ConnectionError: the fork server has gone.
        """
        line = Client(self.address, "AF_UNIX", authkey=self.key)
        line.send_bytes(message)
        return Fork(line)

    def close(self) -> None:
        """End it; what it and its forks took of the processor is then counted as this process's."""
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)


@dataclass(frozen=True)
class Fork:
    """A process that was asked for, and the line to it: when one ends, so does the other."""

    line: Connection

    def alive(self, within: float) -> bool:
        """Whether it still lives; where it does, the answer comes after `within` seconds."""
        return not self.line.poll(within)  # it says nothing, so what comes is the line's end

    def stop(self) -> None:
        """End it."""
        self.line.close()


def open_fork_server(prepare: Callable[[], object], work: Work) -> ForkServer | None:
    """Fork the fork server, which calls `prepare`, and `work` in each of its own forks.

    The calling process must not have any thread yet. None where the system has no such sockets.
    """
    if sys.platform != "linux":
        return None
    address, key = f"\0cadseg-{os.getpid()}-{secrets.token_hex(8)}", secrets.token_bytes(32)
    listener = Listener(address, "AF_UNIX", backlog=64, authkey=key)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with(parent)
            signal.signal(signal.SIGCHLD, _reap)
            prepare()
            while True:
                _serve(listener, work)
        finally:
            os._exit(1)
    listener.close()
    return ForkServer(address, key, pid)


def _reap(*_: object) -> None:
    """Take note of the forks that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _serve(listener: Listener, work: Work) -> None:
    here = os.getpid()
    try:
        line = listener.accept()
    except (AuthenticationError, OSError, EOFError):
        return  # who asks has to know the key, and to be still there
    with line:
        if os.fork() == 0:
            try:
                listener.close()
                _work(line, here, work)
            finally:
                os._exit(1)


def _work(line: Connection, parent: int, work: Work) -> None:
    """What a fork does; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with(parent)
    message = line.recv_bytes()
    threading.Thread(target=_die_with_line, args=(line,), daemon=True).start()
    try:
        work(message)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        raise


def _die_with_line(line: Connection) -> None:
    with contextlib.suppress(OSError):
        line.poll(None)  # who asked says nothing more; its line ends when it does
    os.kill(os.getpid(), signal.SIGKILL)


def die_with(parent: int) -> None:
    """End this process when process `parent`, which started it, ends."""
    if sys.platform == "linux":
        # tied to the parent's *thread*: daisy's spawning threads wait for their child
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it had gone before the call
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
