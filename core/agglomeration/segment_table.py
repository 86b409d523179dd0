"""Segments as rows of a table: how large, where, of how many fragments.

``segment``: its id; ``voxels``; ``z0 y0 x0 z1 y1 x1``: the half-open box around it, in voxels of
the volume; ``fragments``. Rows are sorted by segment; 0 has none.

Rows of the parts of a segment that lie in different blocks add up: a fragment counts where its top
voxel lies, whose place in the volume is its id. A segment is connected, so one of which no part
touches an open side of a block lies in the block as a whole: its row is *complete*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Roi, Zyx, open_sides
from cadseg.fragments.climb import within
from cadseg.kernels import in_place, kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cadseg.arrays import Flags, Ids, Integers, Numbers
    from cadseg.storage.columns import Table

LOWER, UPPER = ("z0", "y0", "x0"), ("z1", "y1", "x1")
VALUES = ("voxels", *LOWER, *UPPER, "fragments")  # int64, so that differences can be negative
ADD, LEAST, MOST = range(3)
JOINED = {
    "voxels": ADD,
    **dict.fromkeys(LOWER, LEAST),
    **dict.fromkeys(UPPER, MOST),
    "fragments": ADD,
}
"""How values of one segment join."""


def measured(numbers: Numbers, fragments: Ids, segments: Ids, write: Roi, shape: Zyx) -> Table:
    """Rows of the segments of a block.

    Args:
        numbers: [z, y, x] uint32 of its basins, 0 for none.
        fragments: uint64 by number, the fragment to which the basin belongs; 0 for 0.
        segments: uint64 by number, the segment to which it belongs; 0 for 0.
        write: box of the block.
        shape: of the whole volume.

    Raises:
        ValueError: a voxel has a number that stands for nothing.
    """
    if fragments.size != segments.size or numbers.max(initial=0) >= fragments.size:
        raise ValueError(f"basins: a number is not among those of {fragments.size} basins")
    values = _measured(numbers, fragments.size)
    values[:, 1:4] += write.begin
    values[:, 4:7] += write.begin
    ids, first = np.unique(fragments, return_index=True)  # basins can be parts of one fragment
    values[first, 7] = (ids != 0) & within(ids, write, shape)
    here = np.flatnonzero(values[:, 0])
    columns = zip(VALUES, values[here].T, strict=True)
    return joined([{"segment": segments[here]} | dict(columns)])


def empty() -> Table:
    """A table without rows."""
    nothing = dict.fromkeys(VALUES, np.empty(0, np.int64))
    return {"segment": np.empty(0, np.uint64)} | nothing


def joined(parts: Sequence[Table]) -> Table:
    """Rows of several blocks, those of one segment joined.

    Raises:
        ValueError: columns are not of one length, or a row is of segment 0.
    """
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if len({column.size for column in columns.values()}) > 1 or not columns["segment"].all():
        raise ValueError("segments: columns are not of one length, or a row is of segment 0")
    order = np.argsort(columns["segment"], kind="stable")
    segment = columns["segment"][order]
    again = segment == np.append(np.uint64(0), segment[:-1])
    table = {"segment": segment[~again]}
    for name, rule in JOINED.items():
        table[name] = np.empty(table["segment"].size, np.int64)
        _join(columns[name], order, again, rule, table[name])
    return table


def complete(table: Table, write: Roi, domain: Roi) -> Flags:
    """Which rows of the block `write` are complete."""
    inside = np.ones(table["segment"].size, np.bool_)
    for axis, side in open_sides(write, domain):
        column, edge = (UPPER, write.end) if side else (LOWER, write.begin)
        inside &= table[column[axis]] != edge[axis]
    return inside


@in_place
def _join(column: Integers, order: Integers, again: Flags, rule: int, out: Integers) -> None:
    """Values in an order, those joined that belong to the same segment as the one before."""
    row = -1
    for i in range(order.size):
        value = column[order[i]]
        if not again[i]:
            row += 1
            out[row] = value
        elif rule == ADD:
            out[row] += value
        elif rule == LEAST:
            out[row] = min(out[row], value)
        else:
            out[row] = max(out[row], value)


@kernel
def _measured(numbers: Numbers, size: int) -> Integers:
    """Voxels of each number, the box around them, and room for one value more."""
    nz, ny, nx = numbers.shape
    values = np.zeros((size, 8), np.int64)
    for z in range(nz):
        for y in range(ny):
            x = 0
            while x < nx:
                number, begin = numbers[z, y, x], x
                while x < nx and numbers[z, y, x] == number:
                    x += 1
                if number == 0:
                    continue
                own = values[number]
                if own[0] == 0:
                    own[1], own[2], own[3] = z, y, begin
                own[0] += x - begin
                own[2] = min(own[2], y)
                own[3] = min(own[3], begin)
                own[4], own[5], own[6] = z + 1, max(own[5], y + 1), max(own[6], x)
    return values
