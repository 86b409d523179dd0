"""Blocks that are lost after they were done: found, and withdrawn, so that they are computed again.

A worker that cannot read what a block has written leaves a *report*, in ``OUT/lost/STEP``. The
driver, alone, withdraws the record of each block that was reported, and goes through the steps once
more. It also looks, when it starts, whether the files that records list are there and as long as
they say.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from cadseg.blocks import cell_name
from cadseg.errors import StageError
from cadseg.workers.names import divided, listed, record_name
from cadseg.workers.store import LostBlockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cadseg.blocks import Zyx
    from cadseg.storage.files import Files
    from cadseg.workers.records import Record
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store

REPORTS = "lost"
OFTEN = 3
"""Times that a file may be lost in one run of the driver."""


def report(files: Files, lost: LostBlockError) -> None:
    """Leave a report on a block that cannot be read."""
    name = divided(f"{REPORTS}/{lost.step}", lost.cell, ".json")
    files.write(name, json.dumps({"file": lost.file, "reason": lost.reason}).encode())


class Repair:
    """Withdraws blocks that are lost, while a run goes on.

    Attributes:
        lost: by step, a sentence per block that was withdrawn.
    """

    def __init__(self, store: Store) -> None:
        """Nothing was seen yet."""
        self.lost: dict[str, list[str]] = defaultdict(list)
        self._store = store
        self._times: Counter[str] = Counter()

    def reported(self) -> bool:
        """Withdraw the blocks that workers have reported; whether there was any.

        Raises:
            StageError: a file was lost again and again.
        """
        reports = list(_reports(self._store.files))
        self.withdraw(reports)
        for lost in reports:
            self._store.files.remove(divided(f"{REPORTS}/{lost.step}", lost.cell, ".json"))
        return bool(reports)

    def look(self, steps: Iterable[Step], found: Mapping[str, Mapping[Zyx, Record]]) -> None:
        """Withdraw blocks of which a file is missing, or has another length than it must have."""
        for step in steps:
            self.withdraw(_misfits(self._store.files, step, found[step.name]))

    def withdraw(self, lost: Iterable[LostBlockError]) -> None:
        """Have these blocks count as not done."""
        for error in lost:
            self._withdraw(error)

    def _withdraw(self, lost: LostBlockError) -> None:
        self._times[lost.file] += 1
        if self._times[lost.file] > OFTEN:
            raise StageError(
                f"output {self._store.files.url}: {lost.file} was lost {OFTEN + 1} times "
                f"({lost.reason}); is the disk, or the memory, of this machine failing?"
            )
        self._store.forget(lost.step, lost.cell)
        self._store.files.remove(record_name(lost.step, lost.cell))
        found = f"{lost.file}: {lost.reason}; {lost.step} block {cell_name(lost.cell)}"
        self.lost[lost.step].append(f"{found} was computed again")


def _reports(files: Files) -> Iterator[LostBlockError]:
    for step in files.list(REPORTS):
        for cell in listed(files, f"{REPORTS}/{step}", ".json"):
            name = divided(f"{REPORTS}/{step}", cell, ".json")
            try:
                found = json.loads(files.read(name))
                file, reason = str(found["file"]), str(found["reason"])
            except (ValueError, LookupError, TypeError):
                file, reason = name, "it cannot be read"
            yield LostBlockError(step, cell, file, reason)


def _misfits(files: Files, step: Step, found: Mapping[Zyx, Record]) -> Iterator[LostBlockError]:
    """Blocks of one step with files that are not there, or not as long as they must be."""
    expected: dict[str, list[tuple[str, Zyx, int]]] = defaultdict(list)
    for cell, record in found.items():
        for file, written in record.files.items():
            folder, _, name = file.rpartition("/")
            expected[folder].append((name, cell, written.length))
    for folder, names in expected.items():
        sizes = files.sizes(folder)
        for name, cell, length in names:
            size = sizes.get(name, 0)
            if size != length:
                reason = f"it is {size} bytes long instead of {length}" if size else "it is missing"
                yield LostBlockError(step.name, cell, f"{folder}/{name}", reason)
