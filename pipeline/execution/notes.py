"""Notes on blocks that were tried and are not done: written by workers, read by every process.

While a block is computed, and after it failed, a note lies in
``OUT/logs/attempts/<step>/<cell>.json``: which attempt it is, in which process, and the first line
of its error (null while it runs, or when its process died without a word). The note goes when the
block is done.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from cadseg.blocks import Zyx, cell_name
from cadseg.pipeline.execution.records import listed
from cadseg.storage import tables

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from cadseg.workers.step import Step

Note = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """A block that is not done although it was tried."""

    cell: Zyx
    error: str
    log: Path


def note_path(out: Path, step: Step, cell: Zyx) -> Path:
    """Where the note on an unfinished block lies."""
    return out / "logs" / "attempts" / step.name / f"{cell_name(cell)}.json"


def read_note(out: Path, step: Step, cell: Zyx) -> Note | None:
    """The note on an unfinished block, if there is one."""
    try:
        note = json.loads(note_path(out, step, cell).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return dict(note)


def write_note(
    out: Path, step: Step, cell: Zyx, *, attempt: int, log: Path, error: str | None = None
) -> None:
    """Note that this process tries a block, or how it failed."""
    note = {
        "attempt": attempt,
        "error": error,
        "log": str(log),
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "started": time.time(),
    }
    tables.replace(note_path(out, step, cell), json.dumps(note).encode())


def clear_notes(out: Path, step: Step, cells: Collection[Zyx] | None = None) -> None:
    """Forget the attempts at `cells`, or at all blocks of `step`."""
    for cell in list(listed(out / "logs" / "attempts" / step.name)) if cells is None else cells:
        note_path(out, step, cell).unlink(missing_ok=True)


def notes(out: Path, step: Step) -> dict[Zyx, Note]:
    """All notes of `step`."""
    found = {}
    for cell in listed(out / "logs" / "attempts" / step.name):
        note = read_note(out, step, cell)
        if note is not None:
            found[cell] = note
    return found


def failure(out: Path, cell: Zyx, note: Note) -> Failure:
    """What a note says about a block that failed."""
    silent = (
        "the worker process died silently: killed, out of memory, over its time, or a full disk"
    )
    error = note["error"] or silent
    return Failure(cell, str(error), out / str(note["log"]))


def alive(note: Note) -> bool:
    """Whether the process that wrote a note is still there, as far as can be seen from here."""
    return note["host"] != os.uname().nodename or psutil.pid_exists(int(note["pid"]))
