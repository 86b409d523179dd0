"""The region adjacency graph: edges between touching fragments, counted block by block.

``affinities[axis, z, y, x]`` joins a voxel and its *lower* neighbour along ``axis`` (0 = z, 1 = y,
2 = x), an unsigned integer. A block counts the pairs of its own voxels, and those across its lower
faces: every pair once, so that sums, counts and maxima of blocks add up exactly, whatever their
shape. Fragment 0 has no edges.

Voxels are counted by the numbers 1, 2, ... that a block gives its fragments (`Pairs`), in one pass
that keeps no more than a small table of the pairs met lately. `edges_of` then names, sorts and
joins the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cadseg.kernels import in_place, kernel
from cadseg.storage.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cadseg.arrays import Array, Ids, Int, Integers, Numbers

SLOTS = 1 << 16
"""Places in the table of pairs, at least: it should fit into a core's own cache."""


@dataclass(frozen=True)
class Pairs:
    """Contacts of pairs of numbered fragments; a pair can have several rows.

    Attributes:
        pair: larger number << 32 | smaller number, uint64.
        sum: of the affinities of all voxel pairs between the two, uint64.
        count: of the voxel pairs, uint64.
        max: of the affinities, uint32.
    """

    pair: Ids
    sum: Ids
    count: Ids
    max: Numbers


@dataclass(frozen=True)
class Edges:
    """Contacts of pairs of fragments, as far as one block counts them: sorted by (u, v).

    Attributes:
        u: smaller fragment id.
        v: larger fragment id.
        sum, count, max: as in `Pairs`.
    """

    u: Ids
    v: Ids
    sum: Ids
    count: Ids
    max: Numbers


def pairs_inside(affinities: Array, numbers: Numbers) -> Pairs:
    """Contacts between the voxels of a block.

    Args:
        affinities: [3, z, y, x] unsigned integers.
        numbers: [z, y, x] uint32 of the fragments, 0 for none.
    """
    assert affinities.shape == (3, *numbers.shape)
    return Pairs(*_inside(affinities, numbers))


def pairs_across(affinities: Array, lower: Numbers, upper: Numbers) -> Pairs:
    """Contacts across a face, between a plane of voxels and the plane below it.

    Args:
        affinities: [n, m] unsigned integers of the upper voxels, along the axis across the face.
        lower: [n, m] uint32, numbers of the fragments in the plane below, 0 for none.
        upper: [n, m] uint32, those in the plane itself.
    """
    assert affinities.shape == lower.shape == upper.shape
    return Pairs(*_across(affinities, lower, upper))


def edges_of(parts: Sequence[Pairs], ids: Ids) -> Edges:
    """The edges of a block: all rows of a pair of fragments joined, none of one with itself.

    Args:
        parts: that together are all contacts that the block counts.
        ids: uint64 by number, of the fragment that it stands for; several can stand for one.

    Raises:
        ValueError: columns are not of one length, or there is no such number.
    """
    pair, total, count, largest = (
        np.concatenate(column) for column in zip(*(vars(p).values() for p in parts), strict=True)
    )
    if not pair.size == total.size == count.size == largest.size:
        raise ValueError("pairs: columns are not of one length")
    larger, smaller = pair >> np.uint64(32), pair & np.uint64(0xFFFFFFFF)
    if max(larger.max(initial=0), smaller.max(initial=0)) >= ids.size:
        raise ValueError(f"pairs: a number is not among those of {ids.size} basins")
    u, v = ids[larger], ids[smaller]
    u, v = np.minimum(u, v), np.maximum(u, v)
    order = Scratch().order(u, v)
    order = order[(u != v)[order]]
    u, v = u[order], v[order]
    first = np.flatnonzero(np.append(True, (u[1:] != u[:-1]) | (v[1:] != v[:-1])))[: u.size]
    return Edges(
        u[first],
        v[first],
        np.add.reduceat(total[order], first),
        np.add.reduceat(count[order], first),
        np.maximum.reduceat(largest[order], first),
    )


class Table(NamedTuple):
    """Rows of pairs, and a hash table (linear probing) of those met lately.

    Attributes:
        pair, sum, area, max: rows, as in `Pairs`; the area is the count of voxel pairs.
        keys: pairs by slot, 0 for none.
        places: their rows.
    """

    pair: Ids
    sum: Ids
    area: Ids
    max: Numbers
    keys: Ids
    places: Integers


@kernel
def _inside(affinities: Array, numbers: Numbers) -> tuple[Ids, Ids, Ids, Numbers]:
    table, used, kept = _empty(numbers.shape[2]), 0, 0
    for z in range(numbers.shape[0]):
        here, joins = numbers[z], affinities[:, z]
        if z > 0:
            table, used, kept = _plane(joins[0], numbers[z - 1], here, table, used, kept)
        table, used, kept = _plane(joins[1, 1:], here[:-1], here[1:], table, used, kept)
        table, used, kept = _plane(joins[2, :, 1:], here[:, :-1], here[:, 1:], table, used, kept)
    return table.pair[:used], table.sum[:used], table.area[:used], table.max[:used]


@kernel
def _across(affinities: Array, lower: Numbers, upper: Numbers) -> tuple[Ids, Ids, Ids, Numbers]:
    table, used, _ = _plane(affinities, lower, upper, _empty(lower.shape[1]), 0, 0)
    return table.pair[:used], table.sum[:used], table.area[:used], table.max[:used]


@kernel
def _empty(width: int) -> Table:
    """A table with room for the pairs of two lines of voxels."""
    slots = SLOTS
    while slots < 4 * width:
        slots *= 2
    return Table(
        np.empty(slots, np.uint64),
        np.empty(slots, np.uint64),
        np.empty(slots, np.uint64),
        np.empty(slots, np.uint32),
        np.zeros(slots, np.uint64),
        np.empty(slots, np.int64),
    )


@kernel
def _plane(
    affinities: Array, lower: Numbers, upper: Numbers, table: Table, used: int, kept: int
) -> tuple[Table, int, int]:
    """Count in the pairs of two planes.

    Of the rows, `used` are in use, and the first `kept` of them are no longer in the hash table.
    """
    for y in range(lower.shape[0]):
        if used + lower.shape[1] > table.pair.size:
            table = _longer(table)
        if used - kept + lower.shape[1] > table.keys.size // 2:
            table.keys[:] = 0
            kept = used
        used = _line(affinities[y], lower[y], upper[y], table, used)
    return table, used, kept


@kernel
def _longer(table: Table) -> Table:
    """Room for twice as many rows."""
    pair, total, area, largest, keys, places = table
    return Table(
        np.concatenate((pair, np.empty_like(pair))),
        np.concatenate((total, np.empty_like(total))),
        np.concatenate((area, np.empty_like(area))),
        np.concatenate((largest, np.empty_like(largest))),
        keys,
        places,
    )


@in_place
def _line(affinities: Array, lower: Numbers, upper: Numbers, table: Table, used: int) -> int:
    """Count in the pairs of two lines, a run of equal ones at a time."""
    pair = np.uint64(0)
    total, count, largest = np.uint64(0), np.uint64(0), np.uint32(0)
    for x in range(lower.size + 1):
        here = np.uint64(0)
        if x < lower.size:
            one, other = lower[x], upper[x]
            if one != other and one != 0 and other != 0:
                here = (np.uint64(max(one, other)) << np.uint64(32)) | np.uint64(min(one, other))
        if here != pair:
            if pair != 0:
                used = _add(pair, total, count, largest, table, used)
            pair = here
            total, count, largest = np.uint64(0), np.uint64(0), np.uint32(0)
        if here != 0:
            affinity = affinities[x]
            total += np.uint64(affinity)
            count += np.uint64(1)
            largest = max(largest, np.uint32(affinity))
    return used


@in_place
def _add(pair: Int, total: Int, count: Int, largest: Int, table: Table, used: int) -> int:
    """Add a contact to the row of its pair; returns how many rows there are."""
    pairs, sums, areas, maxima, keys, places = table
    last = np.uint64(keys.size - 1)
    # numbers that are near each other belong to fragments that are, so their rows are neighbours
    slot = ((pair >> np.uint64(32)) * np.uint64(8) + pair) & last
    while keys[slot] != 0 and keys[slot] != pair:
        slot = (slot + np.uint64(1)) & last
    if keys[slot] == 0:
        keys[slot] = pair
        places[slot] = used
        pairs[used], sums[used], areas[used], maxima[used] = pair, total, count, largest
        return used + 1
    row = places[slot]
    sums[row] += total
    areas[row] += count
    maxima[row] = max(maxima[row], largest)
    return used
