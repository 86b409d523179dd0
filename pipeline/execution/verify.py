"""All files of a run, read and compared with what their blocks' records say.

A reader checks only what it reads, so a file that nothing reads any more can be damaged unseen.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.pipeline.execution.records import loose_cells, rows_in, super_cells, tally
from cadseg.storage import tables
from cadseg.storage.checksums import ABSENT, DamagedError
from cadseg.storage.columns import ColumnFile
from cadseg.workers.packs import NONE, files_in
from cadseg.workers.records import LostBlockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cadseg.blocks import Zyx
    from cadseg.storage.checksums import Written
    from cadseg.storage.files import Files
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store

NAME = "verified.json"

File = tuple["Step", "Zyx", str, "Written"]


@dataclass(frozen=True)
class Verified:
    """What was read.

    Attributes:
        when: seconds since 1970, when it was over.
        files: how many were read.
        size: bytes of these.
        damaged: how many were not what they must be.
        left: blocks that are not done.
    """

    when: float
    files: int
    size: int
    damaged: int
    left: int

    def __str__(self) -> str:
        """In words."""
        found = f"{self.damaged} damaged" if self.damaged else "none damaged"
        left = f"; {self.left} blocks are not done" if self.left else ""
        return f"{self.files} files, {self.size / 1e9:.3f} GB, {found}{left}"


def verify(
    store: Store, steps: Sequence[Step], workers: int = 1, seconds: float | None = None
) -> tuple[Verified, list[LostBlockError]]:
    """Read the files of all blocks that are done; what is lost.

    Args:
        store: the run.
        steps: whose blocks.
        workers: files that are read at the same time.
        seconds: after which no more are begun; None to read all.
    """
    end = None if seconds is None else time.monotonic() + seconds
    lost, files, size = [], 0, 0
    with ThreadPoolExecutor(workers) as pool:
        for group in _groups(_files(store, steps), 16 * workers):
            if end is not None and time.monotonic() > end:
                break
            lost += [found for found in pool.map(lambda file: _lost(store, file), group) if found]
            files += len(group)
            size += sum(written.length for *_, written in group)
    left = sum(store.grid.count(step.level) - tally(store, step).blocks for step in steps)
    return Verified(time.time(), files, size, len(lost), left), lost


def write(files: Files, verified: Verified) -> None:
    """Note when a run was verified."""
    files.write(NAME, json.dumps(vars(verified)).encode())


def read(files: Files) -> Verified | None:
    """When a run was last verified; None where that is not known."""
    try:
        found = Verified(**json.loads(files.read(NAME)))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return None
    return found if all(type(value) in (int, float) for value in vars(found).values()) else None


def _files(store: Store, steps: Iterable[Step]) -> Iterator[File]:
    for step in steps:
        for above in super_cells(store.files, step.name):
            cells = loose_cells(store.files, step.name, above)
            with contextlib.suppress(DamagedError):  # of a pack: none of its blocks is done
                rows = rows_in(store, step, above, cells)
                for cell, written in files_in(rows):
                    for name, one in zip(store.files_of(step, cell), written, strict=True):
                        if one.length != NONE:
                            yield step, cell, name, one


def _groups(files: Iterator[File], size: int) -> Iterator[list[File]]:
    group: list[File] = []
    for file in files:
        group.append(file)
        if len(group) == size:
            yield group
            group = []
    yield group


def _lost(store: Store, file: File) -> LostBlockError | None:
    step, cell, name, written = file
    try:
        _check(store, name, written)
    except DamagedError as error:
        return LostBlockError(step.name, cell, name, error.reason)
    return None


def _check(store: Store, name: str, written: Written) -> None:
    """Read all of a file; raises `DamagedError` where it is not what was written."""
    try:
        length = store.files.size(name)
    except FileNotFoundError:
        length = 0
    if length != written.length:
        found = f"it is {length} bytes long instead of {written.length}"
        raise DamagedError(name, found if length else "it is missing")
    if name.endswith(".columns"):
        read = functools.partial(store.files.read_ranges, name)
        ColumnFile(name, read, written).check()
    elif name.endswith(".parquet"):
        tables.check(store.files, name, written)
    elif written != ABSENT:
        store.array(name.partition("/c/")[0]).check(name, written)
