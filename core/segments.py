"""Segments as rows of a table: how large, where, of how many fragments.

``segment``: its id; ``voxels``; ``z0 y0 x0 z1 y1 x1``: the half-open box around it, in voxels of
the volume; ``fragments``. Rows are sorted by segment; 0 has none.

Rows of the parts of a segment that lie in different blocks add up: a fragment counts where its top
voxel lies, whose place in the volume is its id. A segment is connected, so one of which no part
touches an open side of a block lies in the block as a whole: its row is *complete*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

from cadseg.blocks import Roi, Zyx, open_sides
from cadseg.hashing import grown, slot_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cadseg.tables import Table

Ids = np.ndarray[Any, np.dtype[np.uint64]]

LOWER, UPPER = ("z0", "y0", "x0"), ("z1", "y1", "x1")
VALUES = ("voxels", *LOWER, *UPPER, "fragments")  # int64, so that differences can be negative
JOINED: dict[str, np.ufunc] = {
    "voxels": np.add,
    **dict.fromkeys(LOWER, np.minimum),
    **dict.fromkeys(UPPER, np.maximum),
    "fragments": np.add,
}


def measured(fragments: Ids, segments: Ids, begin: Zyx, shape: Zyx) -> Table:
    """Rows of the segments of a block.

    Args:
        fragments: [z, y, x] uint64.
        segments: what they became, [z, y, x] uint64.
        begin: first voxel of the block.
        shape: of the whole volume.
    """
    origin, full = np.array(begin, np.int64), np.array(shape, np.int64)
    segment, values = _measured(fragments, segments, origin, full)
    order = np.argsort(segment)
    columns = zip(VALUES, values[order].T, strict=True)
    return {"segment": segment[order]} | {name: column.copy() for name, column in columns}


def joined(parts: Sequence[Table]) -> Table:
    """Rows of several blocks, those of one segment joined."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["segment"], kind="stable")
    segment = columns["segment"][order]
    begin = np.flatnonzero(np.diff(segment, prepend=np.uint64(0)))
    table = {"segment": segment[begin]}
    return table | {name: add.reduceat(columns[name][order], begin) for name, add in JOINED.items()}


def complete(table: Table, write: Roi, domain: Roi) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows of the block `write` are complete."""
    inside = np.ones(table["segment"].size, np.bool_)
    for axis, side in open_sides(write, domain):
        column, edge = (UPPER, write.end) if side else (LOWER, write.begin)
        inside &= table[column[axis]] != edge[axis]
    return inside


@nb.njit(nogil=True, cache=True)
def _measured(fragments, segments, origin, full):  # type: ignore[no-untyped-def]
    """Segments in order of appearance, and their values [row, value]."""
    nz, ny, nx = fragments.shape
    keys, rows = np.zeros(1024, np.uint64), np.zeros(1024, np.int64)
    names, values = np.empty(512, np.uint64), np.empty((512, 8), np.int64)
    size = 0
    known, row = np.uint64(0), 0
    for z in range(nz):
        for y in range(ny):
            first = ((z + origin[0]) * full[1] + y + origin[1]) * full[2] + origin[2] + 1
            x = 0
            while x < nx:
                fragment, segment, begin = fragments[z, y, x], segments[z, y, x], x
                while x < nx and fragments[z, y, x] == fragment:
                    x += 1
                if segment == 0:
                    continue
                if segment != known:
                    known = segment
                    slot = slot_of(keys, segment)
                    if keys[slot] == 0:
                        keys[slot], rows[slot], names[size] = segment, size, segment
                        values[size] = (0, full[0], full[1], full[2], 0, 0, 0, 0)
                        size += 1
                    row = rows[slot]
                    if size == names.size:
                        keys, rows = grown(keys, rows)
                        names = np.append(names, np.empty_like(names))
                        values = np.append(values, np.empty_like(values)).reshape(-1, 8)
                own = values[row]
                own[0] += x - begin
                own[1] = min(own[1], z + origin[0])
                own[2] = min(own[2], y + origin[1])
                own[3] = min(own[3], begin + origin[2])
                own[4] = max(own[4], z + origin[0] + 1)
                own[5] = max(own[5], y + origin[1] + 1)
                own[6] = max(own[6], x + origin[2])
                own[7] += first + begin <= np.int64(fragment) < first + x
    return names[:size], values[:size]
