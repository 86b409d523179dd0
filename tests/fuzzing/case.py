"""Inputs that were spoilt, kind by kind, and the law that they are held to.

A command that is given one either ends with exit code 2, one sentence and nothing written, or it
takes the input and means by it what it says. No traceback, no hang.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import real_run as real

from cadseg.errors import CadsegError
from cadseg.pipeline import prepare
from cadseg.pipeline.execution import lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cadseg.pipeline.prepare import PreparedRun

Words = tuple[object, ...]

SECONDS = 60
"""After which a command that has not answered hangs; each takes some milliseconds."""


class HangError(BaseException):
    """A command has not ended; no handler for exceptions may take it."""


@dataclass
class Case:
    """An input and what to do with it.

    Attributes:
        words: of the command line, or a function of the library, which raises `CadsegError`.
        check: what must hold if it is accepted, of the run that was prepared, if any.
        about: what it is, for a person.
    """

    words: Words | Callable[[], object]
    check: Callable[[Any], None] | None = None
    about: object = ""


Kind = Callable[[Random, Path], Case]
"""Draws an input; what it writes goes to the folder ``case``, what it spoils lies in ``inputs``."""


def held(kind: Kind, seed: int, folder: Path) -> str:
    """Try one input; "refused" or "accepted".

    Raises:
        AssertionError: the law does not hold.
    """
    random = Random(f"{kind.__name__} {seed}")
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    case = kind(random, folder)
    before = listing(folder)
    with limited(), prepared_runs() as runs:
        said = _said(case.words)
        assert said.code in (0, 2), said
        if said.code == 0:
            if case.check is not None:
                case.check(runs[-1] if runs else None)
            return "accepted"
    assert said.err.startswith("Error: "), said
    assert said.err.count("\n") == 1, said
    assert said.out == "", said
    assert listing(folder) == before, sorted(listing(folder).items() ^ before.items())
    return "refused"


def _said(words: Words | Callable[[], object]) -> real.Said:
    if isinstance(words, tuple):
        return real.cadseg(*words)
    try:
        words()
    except CadsegError as error:
        return real.Said(2, "", f"Error: {error}\n")
    return real.Said(0, "", "")


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise `HangError` where the time is over."""

    def ring(number: int, frame: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def prepared_runs() -> Iterator[list[PreparedRun]]:
    """The runs that commands prepare."""
    found: list[PreparedRun] = []
    sound = prepare.prepare

    def kept(*args: Any, **request: Any) -> PreparedRun:
        found.append(sound(*args, **request))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "prepare", kept)
        patch.setattr(lock, "LAPSE", 0.05)  # a lock of nobody lapses in two minutes
        yield found


def listing(folder: Path) -> dict[str, int]:
    """Everything in a folder, with the time of its last change."""
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}
