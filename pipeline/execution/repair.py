"""Blocks that are lost after they were done: found, and withdrawn, so that they are computed again.

A worker that cannot read what a block has written leaves a report. The driver, alone, withdraws the
record of each block that was reported, and goes through the steps once more. It also looks, when it
starts, whether the files that records list are there and as long as they say.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from cadseg.blocks import cell_name
from cadseg.errors import StageError
from cadseg.pipeline.execution.done import Done
from cadseg.pipeline.execution.records import loose_cells, pack, rows_in, super_cells, withdraw
from cadseg.pipeline.execution.reports import clear_report, reports
from cadseg.storage.checksums import DamagedError
from cadseg.workers.names import pack_name, record_name
from cadseg.workers.packs import NONE, cells_of, lengths_of, without
from cadseg.workers.records import LostBlockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cadseg.blocks import Zyx
    from cadseg.storage.columns import Table
    from cadseg.storage.files import Files
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store

OFTEN = 3
"""Times that a file may be lost in one run of the driver."""


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

    def done(self, step: Step, *, look: bool) -> Done:
        """The blocks of `step` that are done; what is no record any more is removed.

        Args:
            step: whose blocks.
            look: whether to withdraw blocks of which a file is missing, or has another length than
                it must have.
        """
        files = self._store.files
        found = Done(self._store.grid, step.level)
        row, sizes = None, _Sizes(files)
        for above in super_cells(files, step.name):
            cells = loose_cells(files, step.name, above)
            rows = self._rows(step, above, cells, found)
            if look:
                if above[:2] != row:  # no folder has files of two such rows
                    row, sizes = above[:2], _Sizes(files)
                lost = list(_misfits(self._store, step, rows, sizes))
                self._withdraw(step.name, lost)
                rows = without(rows, {error.cell for error in lost})
            found.add_rows(rows)
            pack(self._store, step, above, rows, cells)
        return found

    def reported(self) -> set[str]:
        """Withdraw the blocks that workers have reported; the steps of which there was any.

        Raises:
            StageError: a file was lost again and again.
        """
        found = list(reports(self._store.files))
        steps = self.withdraw(found)
        for lost in found:
            clear_report(self._store.files, lost)
        return steps

    def withdraw(self, lost: Iterable[LostBlockError]) -> set[str]:
        """Have these blocks count as not done; the steps of which there was any.

        Raises:
            StageError: a file was lost again and again.
        """
        found: dict[str, list[LostBlockError]] = defaultdict(list)
        for error in lost:
            found[error.step].append(error)
        for step, some in found.items():
            self._withdraw(step, some)
        return set(found)

    def _rows(self, step: Step, above: Zyx, cells: Sequence[Zyx], among: Done) -> Table:
        """The records of a super-cell; of those of its own, at `cells`, what is none is removed."""
        files = self._store.files
        try:
            rows = rows_in(self._store, step, above, cells)
        except DamagedError as error:
            self._count(error.name, error.reason)
            found = f"{error.name}: {error.reason}; blocks of {step.name}"
            self.lost[step.name].append(f"{found} were computed again")
            files.remove(pack_name(step.name, above))
            rows = rows_in(self._store, step, above, cells)
        known = set(map(tuple, cells_of(rows).tolist())) if cells else set()
        for cell in cells:
            if cell not in known and among.meets(cell):
                files.remove(record_name(step.name, cell))
        return rows

    def _withdraw(self, step: str, some: Sequence[LostBlockError]) -> None:
        for lost in some:
            self._count(lost.file, lost.reason)
            found = f"{lost.file}: {lost.reason}; {step} block {cell_name(lost.cell)}"
            self.lost[step].append(f"{found} was computed again")
        withdraw(self._store, step, [lost.cell for lost in some])

    def _count(self, file: str, reason: str) -> None:
        self._times[file] += 1
        if self._times[file] > OFTEN:
            raise StageError(
                f"output {self._store.files.url}: {file} was lost {OFTEN + 1} times "
                f"({reason}); is the disk, or the memory, of this machine failing?"
            )


class _Sizes(dict[str, "Mapping[str, int]"]):
    """By folder, the lengths of the files in it: each folder is looked at once."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def __missing__(self, folder: str) -> Mapping[str, int]:
        self[folder] = found = self._files.sizes(folder)
        return found


def _misfits(store: Store, step: Step, rows: Table, sizes: _Sizes) -> Iterator[LostBlockError]:
    """Blocks of one step with files that are not there, or not as long as they must be."""
    cells = [(z, y, x) for z, y, x in cells_of(rows).tolist()]
    lost = set()
    if not cells:
        return
    for names, lengths in zip(store.names_of(step, cells), lengths_of(rows), strict=True):
        for name, length, cell in zip(names, lengths.tolist(), cells, strict=True):
            folder, _, file = name.rpartition("/")
            if sizes[folder].get(file, 0) == length or length == NONE or cell in lost:
                continue
            lost.add(cell)
            size = sizes[folder].get(file)
            reason = f"it is {size} bytes long instead of {length}" if size else "it is missing"
            yield LostBlockError(step.name, cell, name, reason)
