"""Notes on blocks that were tried and are not done: written by workers, read by every process.

While a block is computed, and after it failed, a note lies in
``OUT/logs/attempts/STEP/.../Z.Y.X.json``: which attempt it is, in which process, and the first line
of its error and the system's number for it (null while it runs, or when its process died without a
word). The note goes when the
block is done.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from cadseg.workers.names import divided, listed

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from cadseg.blocks import Zyx
    from cadseg.storage.files import Files
    from cadseg.workers.step import Step

Note = dict[str, Any]

ATTEMPTS = "logs/attempts"

KEYS: dict[str, tuple[type, ...]] = {
    "attempt": (int,),
    "error": (str, type(None)),
    "errno": (int, type(None)),
    "log": (str,),
    "pid": (int,),
    "host": (str,),
    "started": (float,),
}
"""Of a note, with the types of their values; any other is damaged, and none."""


@dataclass(frozen=True)
class Failure:
    """A block that is not done although it was tried."""

    cell: Zyx
    error: str
    log: Path


def note_name(step: Step, cell: Zyx) -> str:
    """Name of the note on an unfinished block."""
    return divided(f"{ATTEMPTS}/{step.name}", cell, ".json")


def read_note(files: Files, step: Step, cell: Zyx) -> Note | None:
    """The note on an unfinished block, if there is one."""
    try:
        note = json.loads(files.read(note_name(step, cell)))
        types = {key: type(value) for key, value in note.items()}
    except (FileNotFoundError, ValueError, AttributeError, RecursionError):
        return None
    sound = all(types.get(key) in accepted for key, accepted in KEYS.items())
    inside = sound and ".." not in note["log"] and not note["log"].startswith("/")
    return note if inside and 0 < note["pid"] < 2**31 else None


def write_note(
    files: Files,
    step: Step,
    cell: Zyx,
    *,
    attempt: int,
    log: str,
    error: BaseException | None = None,
) -> None:
    """Note that this process tries a block, or how it failed."""
    line = None if error is None else f"{type(error).__name__}: {error}".splitlines()[0]
    note = {
        "attempt": attempt,
        "error": line,
        "errno": getattr(error, "errno", None),
        "log": log,
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "started": time.time(),
    }
    files.write(note_name(step, cell), json.dumps(note).encode(), durable=False)


def clear_notes(files: Files, step: Step, cells: Collection[Zyx] | None = None) -> None:
    """Forget the attempts at `cells`, or at all blocks of `step`."""
    for cell in listed(files, f"{ATTEMPTS}/{step.name}", ".json") if cells is None else cells:
        files.remove(note_name(step, cell))


def notes(files: Files, step: Step) -> dict[Zyx, Note]:
    """All notes of `step`."""
    found = {}
    for cell in listed(files, f"{ATTEMPTS}/{step.name}", ".json"):
        note = read_note(files, step, cell)
        if note is not None:
            found[cell] = note
    return found


def failure(files: Files, cell: Zyx, note: Note) -> Failure:
    """What a note says about a block that failed."""
    silent = (
        "the worker process died silently: killed, out of memory, over its time, or a full disk"
    )
    error = note["error"] or silent
    return Failure(cell, str(error), files.local(note["log"]))


def alive(note: Note) -> bool:
    """Whether the process that wrote a note is still there, as far as can be seen from here."""
    return note["host"] != os.uname().nodename or psutil.pid_exists(int(note["pid"]))
