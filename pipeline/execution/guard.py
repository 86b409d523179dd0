"""Whether the place of a run still takes what is written to it, asked again and again.

A disk that is full, cannot be written, has gone or does not answer ends the run in one sentence.
Who looks at a network disk that has gone may have to wait for ever, so the looks of a run that goes
are in threads of their own, which are left behind where no answer comes.
"""

from __future__ import annotations

import errno
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PAUSE = 5.0  # seconds between two checks
SILENT = 30.0  # seconds without an answer after which a disk is given up

FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of a block that every other block would have, too."""


class Guard:
    """A context in which the place of a run is checked."""

    def __init__(self, *checks: Callable[[], None]) -> None:
        """Check by `checks`, which raise an `OSError` where something is wrong."""
        self._checks = checks
        self._error: Exception | None = None
        self._asked: float | None = None
        self._over = threading.Event()

    def __enter__(self) -> Self:
        """Begin to check."""
        threading.Thread(target=self._loop, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Check no more."""
        self._over.set()

    def check(self) -> None:
        """Check once more.

        Raises:
            OSError: the place takes nothing, or does not answer.
        """
        self.wait(self._all)

    def ask(self) -> None:
        """Say what the checks have found.

        Raises:
            OSError: the place takes nothing, or does not answer.
        """
        asked = self._asked
        if self._error is not None:
            raise self._error
        if asked is not None and time.monotonic() - asked > SILENT:
            text = f"the disk has not answered for {SILENT:g} seconds"
            raise TimeoutError(errno.ETIMEDOUT, text)

    def wait(self, act: Callable[[], T]) -> T:
        """What `act` returns, or raises, that looks at the place.

        Raises:
            OSError: the place takes nothing, or does not answer.
        """
        self.ask()
        answer = apart(act)
        while not wait([answer], 1.0).done:
            self.ask()
        return answer.result()

    def _all(self) -> None:
        for check in self._checks:
            check()

    def _loop(self) -> None:
        while not self._over.wait(PAUSE):
            self._asked = time.monotonic()
            try:
                self._all()
            except Exception as error:
                self._error = error
                return
            self._asked = None


def apart(act: Callable[[], T]) -> Future[T]:
    """Have `act` done by a thread for which nobody waits when this process ends."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(act())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer
