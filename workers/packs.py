"""Packed records: those of a step's blocks in one super-cell, in one file.

``records/STEP/Z.Y.X.columns``, named by the super-cell, is a file of `cadseg.storage.columns` with
these tables:

* `of`: the bytes of a text that names the step, the super-cell and the identity of the stage;
* `blocks`: a row per block, its cell z, y, x, its `voxels`, millionths of a second as `micros`,
  each count as ``count NAME``, and of each file that a block of the step may write (`files_of`, by
  its place there) ``length I`` and ``checksum I``; -1 for a count, or a length, that there is not;
* `sums` and `largest`: one row, of all columns but those of cells and files.

The driver alone writes packs, and removes the records that it has packed after the pack is in its
place. So whoever finds no record of a block looks into the pack, and where an older pack is known,
looks whether there is another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Zyx, cell_name, zyx
from cadseg.storage.checksums import DamagedError, Written
from cadseg.storage.columns import ColumnFile, ColumnWriter, Ranges
from cadseg.workers.names import SUPER, pack_name, super_cell
from cadseg.workers.records import Record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from cadseg.arrays import Array
    from cadseg.storage.columns import Table
    from cadseg.storage.files import Files

COUNT, LENGTH, CHECKSUM = "count ", "length ", "checksum "
MICRO = 1_000_000
NONE = -1


@dataclass
class Pack:
    """The records of blocks in one super-cell.

    Attributes:
        identity: of their stage.
        rows: a row per block, as in the table `blocks`.
        seal: checksum of the file.
    """

    identity: str
    rows: Table
    seal: int

    def __post_init__(self) -> None:
        """Index the blocks by their place in the super-cell."""
        self._places = np.full((SUPER,) * 3, NONE)
        z, y, x = cells_of(self.rows).T % SUPER
        self._places[z, y, x] = np.arange(z.size)

    def __contains__(self, cell: Zyx) -> bool:
        """Whether the record of a block of the super-cell is here."""
        return self._place(cell) != NONE

    def record(self, cell: Zyx, names: Sequence[str]) -> Record:
        """The record of a block, all of whose files may be `names`."""
        place = self._place(cell)
        row = {name: int(column[place]) for name, column in self.rows.items()}
        files = {
            name: Written(row[f"{LENGTH}{i}"], row[f"{CHECKSUM}{i}"])
            for i, name in enumerate(names)
            if row[f"{LENGTH}{i}"] != NONE
        }
        counts = {
            name.removeprefix(COUNT): number
            for name, number in row.items()
            if name.startswith(COUNT) and number != NONE
        }
        return Record(self.identity, row["voxels"], row["micros"] / MICRO, counts, files)

    def _place(self, cell: Zyx) -> int:
        z, y, x = (c % SUPER for c in cell)
        return int(self._places[z, y, x])


def read(files: Files, step: str, above: Zyx, known: Pack | None = None) -> Pack | None:
    """The pack of a super-cell, which is `known` where that has not changed; None if there is none.

    Raises:
        DamagedError: it is damaged, or another one's.
    """
    name = pack_name(step, above)
    try:
        if known is not None:
            (tail,) = files.read_ranges(name, [(-4, 4)])
            if int.from_bytes(tail, "little") == known.seal:
                return known
        file = ColumnFile(name, _ranges(files.read(name)))  # at once: it may be replaced meanwhile
    except FileNotFoundError:
        return None
    identity = _identity(file, step, above)
    return Pack(identity, file.read("blocks"), file.seal)


def read_sums(files: Files, step: str, above: Zyx, identity: str) -> tuple[Table, Table]:
    """The tables `sums` and `largest` of a super-cell; without columns where there is no pack.

    Raises:
        DamagedError: it is damaged, or another one's.
    """
    name = pack_name(step, above)
    try:
        file = ColumnFile(name, lambda spans: files.read_ranges(name, spans))
        if _identity(file, step, above) != identity:
            return {}, {}
        return file.read("sums"), file.read("largest")
    except FileNotFoundError:
        return {}, {}
    except DamagedError:  # or replaced between two looks
        pack = read(files, step, above)
        return summed(pack.rows) if pack and pack.identity == identity else ({}, {})


def write(files: Files, step: str, above: Zyx, identity: str, rows: Table) -> None:
    """Put the pack of a super-cell in its place."""
    name, (sums, largest) = pack_name(step, above), summed(rows)
    text = np.frombuffer(_text(step, above, identity).encode(), np.uint8)
    with files.batch() as batch, batch.writing(name) as sink:
        writer = ColumnWriter(sink)
        for table, columns in (
            ("of", {"byte": text}),
            ("blocks", rows),
            ("sums", sums),
            ("largest", largest),
        ):
            writer.append(table, columns)
        writer.close()


def rows_of(records: Mapping[Zyx, Record], names: Mapping[Zyx, Sequence[str]]) -> Table:
    """Rows of records, in z y x order; `names` are all files that a block may write."""
    counts = sorted({name for record in records.values() for name in record.counts})
    most = max(map(len, names.values()), default=0)
    columns: dict[str, list[int]] = {name: [] for name in ("z", "y", "x", "voxels", "micros")}
    columns |= {f"{COUNT}{name}": [] for name in counts}
    columns |= {f"{what}{i}": [] for i in range(most) for what in (LENGTH, CHECKSUM)}
    absent = Written(NONE, 0)
    for cell in sorted(records):
        record = records[cell]
        numbers = [*cell, record.voxels, round(record.seconds * MICRO)]
        numbers += [record.counts.get(name, NONE) for name in counts]
        for name in names[cell]:
            numbers += record.files.get(name, absent)
        for column, number in zip(columns.values(), numbers, strict=True):
            column.append(number)
    return {
        name: np.array(column, np.uint32 if name.startswith(CHECKSUM) else np.int64)
        for name, column in columns.items()
    }


def joined(packed: Table, fresh: Table) -> Table:
    """Rows of both, in z y x order; of a block in both, that of `fresh`."""
    if not packed or not fresh["z"].size:
        return packed or fresh
    old = packed["z"].size
    filled = {
        name: np.concatenate([_column(rows, name) for rows in (packed, fresh)])
        for name in dict.fromkeys([*packed, *fresh])
    }
    cells = cells_of(filled)
    order = np.lexsort((np.arange(len(cells)) < old, *cells.T[::-1]))  # the fresh one first
    doubled = np.zeros(order.size, np.bool_)
    doubled[1:] = (cells[order][1:] == cells[order][:-1]).all(1)
    return _taken(filled, order[~doubled])


def without(rows: Table, cells: Collection[Zyx]) -> Table:
    """Rows but those of some blocks."""
    if not cells:
        return rows
    keep = [tuple(cell) not in cells for cell in cells_of(rows).tolist()]
    return _taken(rows, np.array(keep, np.bool_))


def cells_of(rows: Table) -> Array:
    """The cells of rows, [n, 3]."""
    return np.stack([rows[axis] for axis in "zyx"], 1)


def lengths_of(rows: Table) -> list[Array]:
    """For each file that a block may write, in their order, its lengths."""
    return [column for name, column in rows.items() if name.startswith(LENGTH)]


def files_in(rows: Table) -> Iterator[tuple[Zyx, list[Written]]]:
    """For each row, its cell and what the files that its block may write must be, in order."""
    checksums = [column for name, column in rows.items() if name.startswith(CHECKSUM)]
    columns = [(c.tolist(), s.tolist()) for c, s in zip(lengths_of(rows), checksums, strict=True)]
    for row, cell in enumerate(cells_of(rows).tolist()):
        yield zyx(cell), [Written(lengths[row], sums[row]) for lengths, sums in columns]


def summed(rows: Table) -> tuple[Table, Table]:
    """The tables `sums` and `largest` of rows."""
    summands = {
        name: column
        for name, column in rows.items()
        if name in ("voxels", "micros") or name.startswith(COUNT)
    }
    sums = {name: np.maximum(column, 0).sum(keepdims=True) for name, column in summands.items()}
    largest = {name: column.max(initial=NONE, keepdims=True) for name, column in summands.items()}
    return {"blocks": np.array([rows["z"].size]), **sums}, largest


def super_cells_of(cells: Iterable[Zyx]) -> dict[Zyx, list[Zyx]]:
    """Cells by the super-cell that holds them."""
    found: dict[Zyx, list[Zyx]] = {}
    for cell in cells:
        found.setdefault(super_cell(cell), []).append(cell)
    return found


def _taken(rows: Table, which: Array) -> Table:
    return {name: column[which] for name, column in rows.items()}


def _column(rows: Table, name: str) -> Array:
    absent = np.full(rows["z"].size, NONE)
    return rows[name] if name in rows else absent


def _text(step: str, above: Zyx, identity: str) -> str:
    return f"{step} {cell_name(above)} {identity}"


def _identity(file: ColumnFile, step: str, above: Zyx) -> str:
    if "of" in file.tables:
        text = bytes(file.read("of").get("byte", np.empty(0, np.uint8))).decode("utf-8", "replace")
        before = _text(step, above, "")
        if text.startswith(before):
            return text.removeprefix(before)
    raise DamagedError(file.name, "it is not the pack of its super-cell")


def _ranges(content: bytes) -> Ranges:
    def read(spans: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        for begin, length in spans:
            start = max(0, len(content) + begin) if begin < 0 else begin
            yield content[start : start + length]

    return read
