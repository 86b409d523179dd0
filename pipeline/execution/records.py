"""The records of a step, all of them: they alone say which blocks are done.

A block is *done* when its record is there and carries the identity that its stage has now. Workers
write a record per block; where a super-cell (`cadseg.workers.names`) has `ENOUGH` of them, the
driver, which alone holds the run's lock, packs them into one file (`cadseg.workers.packs`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cadseg.blocks import cell_name
from cadseg.storage.checksums import DamagedError
from cadseg.workers import packs
from cadseg.workers import records as loose
from cadseg.workers.names import cell_of, pack_name, record_name, super_cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cadseg.blocks import Zyx
    from cadseg.storage.columns import Table
    from cadseg.storage.files import Files
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store

ENOUGH = 256
"""Records of a super-cell that are packed; fewer stay files of their own."""


def super_cells(files: Files, step: str) -> list[Zyx]:
    """The super-cells of which there are records, in z y x order."""
    found = {cell_of(name) for name in files.list(f"records/{step}")}
    return sorted(above for above in found if above is not None)


def loose_cells(files: Files, step: str, above: Zyx) -> list[Zyx]:
    """The cells of a super-cell that have a record of their own."""
    cells = {name: cell_of(name) for name in files.list(f"records/{step}/{cell_name(above)}")}
    return [
        cell
        for name, cell in cells.items()
        if cell is not None and name == f"{cell_name(cell)}.json" and super_cell(cell) == above
    ]


def rows_in(store: Store, step: Step, above: Zyx, cells: Iterable[Zyx]) -> Table:
    """The records of a super-cell, as rows of a pack.

    Args:
        store: the run.
        step: of the records.
        above: the super-cell.
        cells: those that may have a record of their own.

    Raises:
        DamagedError: the pack is damaged.
    """
    identity = store.identity(step.stage)
    begin, end = store.grid.span(step.level)
    fresh = {}
    for cell in cells:
        record = loose.read(store.files, step.name, cell)
        inside = all(b <= c < e for b, c, e in zip(begin, cell, end, strict=True))
        if record is not None and record.identity == identity and inside:
            fresh[cell] = record
    names = {cell: store.files_of(step, cell) for cell in fresh}
    pack = packs.read(store.files, step.name, above)  # last: what has just gone is in there now
    packed = pack.rows if pack is not None and pack.identity == identity else {}
    return packs.joined(packed, packs.rows_of(fresh, names))


def pack(store: Store, step: Step, above: Zyx, rows: Table, cells: Sequence[Zyx]) -> list[Zyx]:
    """Pack all records of a super-cell, if there are enough.

    Args:
        store: the run.
        step: of the records.
        above: the super-cell.
        rows: its records.
        cells: those that may have a record of their own.

    Returns:
        The cells of records of their own that are packed now.
    """
    if not cells or rows["z"].size < ENOUGH:
        return []
    here = set(map(tuple, packs.cells_of(rows).tolist()))
    packed = [cell for cell in cells if cell in here]
    if not packed:
        return []
    packs.write(store.files, step.name, above, store.identity(step.stage), rows)
    for cell in packed:
        store.files.remove(record_name(step.name, cell))
    return packed


def withdraw(store: Store, step: str, cells: Iterable[Zyx]) -> None:
    """Remove the records of blocks."""
    for above, some in packs.super_cells_of(cells).items():
        for cell in some:
            store.files.remove(record_name(step, cell))
            store.forget(step, cell)
        try:
            known = packs.read(store.files, step, above)
        except DamagedError:
            continue  # it is removed when it is read
        if known is not None and any(cell in known for cell in some):
            rows = packs.without(known.rows, some)
            if rows["z"].size:
                packs.write(store.files, step, above, known.identity, rows)
            else:
                store.files.remove(pack_name(step, above))


@dataclass
class Tally:
    """What the records of a step add up to.

    Attributes:
        blocks: that are done.
        voxels: that they have computed.
        seconds: that they took.
        counts: of what they found; those of something largest are not added up.
    """

    blocks: int = 0
    voxels: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, sums: Table) -> None:
        """Count in the sums of some records."""
        self.blocks += int(sums["blocks"][0])
        self.voxels += int(sums["voxels"][0])
        self.seconds += float(sums["micros"][0]) / packs.MICRO
        counts = (name for name in sums if name.startswith(packs.COUNT))
        for name in counts:
            if not name.startswith(f"{packs.COUNT}largest"):
                self.counts[name.removeprefix(packs.COUNT)] += int(sums[name][0])


def tally(store: Store, step: Step) -> Tally:
    """What the records of `step` add up to; one small read per pack."""
    found = Tally()
    for _, (sums, _) in _summed(store, step):
        found.add(sums)
    return found


def largest(store: Store, step: Step, count: str) -> Mapping[str, int]:
    """The counts of the record in which `count` is largest; none where no record has it."""
    best, most = None, 0
    for above, (_, maxima) in _summed(store, step):
        found = maxima.get(f"{packs.COUNT}{count}", (0,))[0]
        if found > most:
            best, most = above, found
    if best is None:
        return {}
    rows = rows_in(store, step, best, loose_cells(store.files, step.name, best))
    place = rows[f"{packs.COUNT}{count}"].argmax()
    return {
        name.removeprefix(packs.COUNT): int(column[place])
        for name, column in rows.items()
        if name.startswith(packs.COUNT)
    }


def _summed(store: Store, step: Step) -> Iterator[tuple[Zyx, tuple[Table, Table]]]:
    """Per super-cell, the sums and the maxima of its records."""
    for above in super_cells(store.files, step.name):
        try:
            cells = loose_cells(store.files, step.name, above)
            if cells:
                yield above, packs.summed(rows_in(store, step, above, cells))
            else:
                identity = store.identity(step.stage)
                sums, maxima = packs.read_sums(store.files, step.name, above, identity)
                if sums:
                    yield above, (sums, maxima)
        except DamagedError:
            continue
