"""How far a run is: read from its files alone, whether or not anything runs there now.

A block is *done* when its record is there and carries the identity that its stage has now. While a
block is computed, and after it failed, a note lies in ``OUT/logs/attempts/<step>/<cell>.json``:
which attempt it is, in which process, and the first line of its error (null while it runs, or when
its process died without a word). The note goes when the block is done.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from cadseg.blocks import Zyx, zyx

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from cadseg.storage.files import Files
    from cadseg.workers.process import Step
    from cadseg.workers.store import Store

SHOWN = 5  # errors per step
ATTEMPTS = "logs/attempts"

Note = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """A block that is not done although it was tried."""

    cell: Zyx
    error: str
    log: Path


@dataclass(frozen=True)
class StepStatus:
    """How far one step is.

    Attributes:
        step: its name.
        stage: the stage that it belongs to.
        done: blocks that have their record.
        failed: blocks that were tried, are not done and are not being computed now.
        left: all others that are not done.
        total: all blocks.
        running: of those left, blocks that are being computed now.
        voxels_per_second: of one process, from the records; 0 where there is none.
        seconds_left: at this speed, for as many processes as there are now, or one; None where
            there is no record to tell.
        failures: the last few failed blocks, latest first.
    """

    step: str
    stage: str
    done: int
    failed: int
    left: int
    total: int
    running: int
    voxels_per_second: float
    seconds_left: float | None
    failures: list[Failure] = field(default_factory=list)


def status(store: Store, steps: Sequence[Step]) -> list[StepStatus]:
    """How far each of `steps` of a run is."""
    return [_status(store, step) for step in steps]


def _status(store: Store, step: Step) -> StepStatus:
    done = records(store, step)
    total = store.grid.count(step.level)
    noted = {cell: note for cell, note in notes(store.files, step).items() if cell not in done}
    tried = {cell: note for cell, note in noted.items() if note["error"] or not _alive(note)}
    running = len(noted) - len(tried)
    voxels = sum(record["voxels"] for record in done.values())
    seconds = sum(record["seconds"] for record in done.values())
    todo = sum(
        store.grid.block(step.level, cell).write.size
        for cell in store.grid.cells(step.level)
        if cell not in done
    )
    latest = sorted(tried, key=lambda cell: float(tried[cell]["started"]), reverse=True)
    return StepStatus(
        step=step.name,
        stage=step.stage,
        done=len(done),
        failed=len(tried),
        left=total - len(done) - len(tried),
        total=total,
        running=running,
        voxels_per_second=voxels / seconds if seconds else 0.0,
        seconds_left=todo * seconds / voxels / max(1, running) if voxels else None,
        failures=[failure(store.files, cell, tried[cell]) for cell in latest[:SHOWN]],
    )


def _alive(note: Note) -> bool:
    return note["host"] != os.uname().nodename or psutil.pid_exists(int(note["pid"]))


# records -------------------------------------------------------------------------------------


def records(store: Store, step: Step, *, prune: bool = False) -> dict[Zyx, dict[str, Any]]:
    """The done-records of `step`; with `prune`, files that are none (any more) are removed."""
    begin, end = store.grid.span(step.level)
    found = {}
    for cell in listed(store.files, f"records/{step.name}"):
        if not all(b <= c < e for b, c, e in zip(begin, cell, end, strict=True)):
            continue
        record = store.record(step.name, step.stage, cell)
        if record is not None:
            found[cell] = record
        elif prune:
            store.files.remove(store.record_name(step.name, cell))
    return found


def listed(files: Files, folder: str) -> Iterator[Zyx]:
    """The cells that have an object ``z.y.x.json`` in `folder`."""
    for name in files.list(folder):
        stem, _, suffix = name.rpartition(".")
        parts = stem.split(".")
        if suffix == "json" and len(parts) == 3 and all(part.isdigit() for part in parts):
            yield zyx(parts)


# notes ---------------------------------------------------------------------------------------


def note_name(step: Step, cell: Zyx) -> str:
    """Name of the note on an unfinished block."""
    return f"{ATTEMPTS}/{step.name}/{'.'.join(map(str, cell))}.json"


def read_note(files: Files, step: Step, cell: Zyx) -> Note | None:
    """The note on an unfinished block, if there is one."""
    try:
        note = json.loads(files.read(note_name(step, cell)))
    except (FileNotFoundError, ValueError):
        return None
    return dict(note)


def write_note(
    files: Files, step: Step, cell: Zyx, *, attempt: int, log: str, error: str | None = None
) -> None:
    """Note that this process tries a block, or how it failed."""
    note = {
        "attempt": attempt,
        "error": error,
        "log": log,
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "started": time.time(),
    }
    files.write(note_name(step, cell), json.dumps(note).encode())


def clear_notes(files: Files, step: Step, cells: Collection[Zyx] | None = None) -> None:
    """Forget the attempts at `cells`, or at all blocks of `step`."""
    for cell in listed(files, f"{ATTEMPTS}/{step.name}") if cells is None else cells:
        files.remove(note_name(step, cell))


def notes(files: Files, step: Step) -> dict[Zyx, Note]:
    """All notes of `step`."""
    found = {}
    for cell in listed(files, f"{ATTEMPTS}/{step.name}"):
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
