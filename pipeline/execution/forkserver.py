"""Worker processes that start at once, forked from one in which everything is loaded.

A fresh Python takes two seconds to import what a worker needs and to start numba; a run has a
dozen steps, and every step starts its own workers. So the server forks a *nursery* before it has
any thread. daisy still starts a process per worker, but a light one, an `Errand`: it asks the
nursery for a fork of itself that does the work, and lives as long as that does. This file imports
only what Python brings along, because every errand imports it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pickle
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

PR_SET_PDEATHSIG = 1
CONTEXT = "DAISY_CONTEXT"  # where daisy tells a process which worker it is


@dataclass(frozen=True)
class Nursery:
    """Where to ask for a process, and with which key: the address is no secret, the key is."""

    address: str
    key: bytes
    pid: int

    def close(self) -> None:
        """End it; what it and its forks took of the processor is then counted as this process's."""
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)


@dataclass(frozen=True)
class Errand:
    """What daisy runs as a worker: a stand-in for a fork of the nursery.

    Attributes:
        worker: the pickled work: a function of how to leave before it returns.
        parent: the server's process.
        nursery: None where there is none; then the work is done here.
    """

    worker: bytes
    parent: int
    nursery: Nursery | None

    def __call__(self) -> None:
        """Have the work done, and end as it ends."""
        die_with(self.parent)
        if self.nursery is not None:
            with contextlib.suppress(ConnectionError):  # it was killed: nothing is lost but time
                with Client(self.nursery.address, "AF_UNIX", authkey=self.nursery.key) as line:
                    line.send((self.worker, os.environ.get(CONTEXT, "")))
                    _wait(line)
                return
        pickle.loads(self.worker)(functools.partial(os._exit, 0))


def open_nursery(prepare: Callable[[], object]) -> Nursery | None:
    """Fork the nursery, which then calls `prepare`; None where the system has no such sockets.

    The calling process must not have any thread yet.
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
                _serve(listener)
        finally:
            os._exit(1)
    listener.close()
    return Nursery(address, key, pid)


def _reap(*_: object) -> None:
    """Take note of the forks that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _serve(listener: Listener) -> None:
    here = os.getpid()
    try:
        line = listener.accept()
    except (AuthenticationError, OSError, EOFError):
        return  # who asks has to know the key, and to be still there
    with line:
        if os.fork() == 0:
            try:
                listener.close()
                _work(line, here)
            finally:
                os._exit(1)


def _work(line: Connection, parent: int) -> None:
    """The work of one errand, in a process of its own; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with(parent)
    worker, os.environ[CONTEXT] = line.recv()
    threading.Thread(target=_die_with_line, args=(line,), daemon=True).start()

    def leave() -> None:
        line.send(None)
        os._exit(0)

    try:
        pickle.loads(worker)(leave)
        leave()
    except BaseException:
        traceback.print_exc()
        raise


def _wait(line: Connection) -> None:
    try:
        line.recv()
    except EOFError:
        sys.exit("the worker process died")


def _die_with_line(line: Connection) -> None:
    with contextlib.suppress(OSError):
        line.poll(None)  # an errand says nothing more; its line ends when it does
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
