"""Edges of the graph of touching fragments, counted block by block.

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
from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

from cadseg.blocks import Roi, open_sides
from cadseg.storage.scratch import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Ids = np.ndarray[Any, np.dtype[np.uint64]]
Numbers = np.ndarray[Any, np.dtype[np.uint32]]

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


@dataclass(frozen=True)
class Faces:
    """Fragments on open faces of a block: sorted ids, and one bit per face (z-, z+, y-, ...)."""

    fragment: Ids
    faces: np.ndarray[Any, np.dtype[np.uint8]]


def pairs_inside(affinities: np.ndarray[Any, Any], numbers: Numbers) -> Pairs:
    """Contacts between the voxels of a block.

    Args:
        affinities: [3, z, y, x] unsigned integers.
        numbers: [z, y, x] uint32 of the fragments, 0 for none.
    """
    return Pairs(*_inside(affinities, numbers))


def pairs_across(affinities: np.ndarray[Any, Any], lower: Numbers, upper: Numbers) -> Pairs:
    """Contacts across a face, between a plane of voxels and the plane below it.

    Args:
        affinities: [n, m] unsigned integers of the upper voxels, along the axis across the face.
        lower: [n, m] uint32, numbers of the fragments in the plane below, 0 for none.
        upper: [n, m] uint32, those in the plane itself.
    """
    return Pairs(*_across(affinities, lower, upper))


def edges_of(parts: Sequence[Pairs], ids: Ids) -> Edges:
    """The edges of a block: all rows of a pair of fragments joined, none of one with itself.

    Args:
        parts: that together are all contacts that the block counts.
        ids: uint64 by number, of the fragment that it stands for; several can stand for one.
    """
    pair, total, count, largest = (
        np.concatenate(column) for column in zip(*(vars(p).values() for p in parts), strict=True)
    )
    u, v = ids[pair >> np.uint64(32)], ids[pair & np.uint64(0xFFFFFFFF)]
    u, v = np.minimum(u, v), np.maximum(u, v)
    order = Workspace().order(u, v)
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


def faces_of(found: Iterable[tuple[int, int, Ids]]) -> Faces:
    """The fragments that may go on, or have neighbours, outside a block.

    These are all that the block knows of: those with a voxel on a face beyond which the domain goes
    on, and those just beyond a lower face, with whose voxels the block counts edges.

    Args:
        found: (axis, side, ids of fragments); side 0 is the lower face, 1 the upper one.
    """
    parts = [(ids, 1 << (2 * axis + side)) for axis, side, ids in found]
    ids = np.concatenate([np.empty(0, np.uint64), *(ids for ids, _ in parts)])
    bits = [np.full(ids.size, bit, np.uint8) for ids, bit in parts]
    fragment, place = np.unique(ids, return_inverse=True)
    faces = np.zeros(fragment.size, np.uint8)
    np.bitwise_or.at(faces, place, np.concatenate([np.empty(0, np.uint8), *bits]))
    known = fragment != 0
    return Faces(fragment[known], faces[known])


def outer_faces(children: list[tuple[Roi, Faces]], write: Roi, domain: Roi) -> Faces:
    """Fragments on the open faces of the block `write`, from those of the blocks inside it."""
    found = []
    for child, faces in children:
        for axis, side in open_sides(write, domain):
            outer = write.end if side else write.begin
            if (child.end if side else child.begin)[axis] == outer[axis]:
                there = (faces.faces & (1 << (2 * axis + side))) != 0
                found.append((axis, side, faces.fragment[there]))
    return faces_of(found)


@nb.njit(nogil=True, cache=True)
def _inside(affinities, numbers):  # type: ignore[no-untyped-def]
    rows, table, used, kept = _nothing(numbers.shape[2])
    for z in range(numbers.shape[0]):
        here, joins = numbers[z], affinities[:, z]
        if z > 0:
            rows, used, kept = _plane(joins[0], numbers[z - 1], here, rows, table, used, kept)
        rows, used, kept = _plane(joins[1, 1:], here[:-1], here[1:], rows, table, used, kept)
        rows, used, kept = _plane(
            joins[2, :, 1:], here[:, :-1], here[:, 1:], rows, table, used, kept
        )
    return rows[0][:used], rows[1][:used], rows[2][:used], rows[3][:used]


@nb.njit(nogil=True, cache=True)
def _across(affinities, lower, upper):  # type: ignore[no-untyped-def]
    rows, table, used, kept = _nothing(lower.shape[1])
    rows, used, _ = _plane(affinities, lower, upper, rows, table, used, kept)
    return rows[0][:used], rows[1][:used], rows[2][:used], rows[3][:used]


@nb.njit(nogil=True, cache=True)
def _nothing(width):  # type: ignore[no-untyped-def]
    """No rows yet; a table that has room for those of two lines of voxels; rows used, rows gone.

    The table holds pairs and the places of their rows. Rows that went out of it stay as they are.
    """
    slots = SLOTS
    while slots < 4 * width:
        slots *= 2
    rows = (
        np.empty(slots, np.uint64),
        np.empty(slots, np.uint64),
        np.empty(slots, np.uint64),
        np.empty(slots, np.uint32),
    )
    return rows, (np.zeros(slots, np.uint64), np.empty(slots, np.int64)), 0, 0


@nb.njit(nogil=True, cache=True)
def _plane(affinities, lower, upper, rows, table, used, kept):  # type: ignore[no-untyped-def]
    """Count in the pairs of two planes; returns the rows, how many they are, how many are gone."""
    for y in range(lower.shape[0]):
        if used + lower.shape[1] > rows[0].size:
            rows = (_longer(rows[0]), _longer(rows[1]), _longer(rows[2]), _longer(rows[3]))
        if used - kept + lower.shape[1] > table[0].size // 2:
            table[0][:] = 0
            kept = used
        used = _line(affinities[y], lower[y], upper[y], rows, table, used)
    return rows, used, kept


@nb.njit(nogil=True, cache=True)
def _longer(array):  # type: ignore[no-untyped-def]
    return np.concatenate((array, np.empty_like(array)))


@nb.njit(nogil=True, cache=True)
def _line(affinities, lower, upper, rows, table, used):  # type: ignore[no-untyped-def]
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
                used = _add(pair, total, count, largest, rows, table, used)
            pair = here
            total, count, largest = np.uint64(0), np.uint64(0), np.uint32(0)
        if here != 0:
            affinity = affinities[x]
            total += np.uint64(affinity)
            count += np.uint64(1)
            largest = max(largest, np.uint32(affinity))
    return used


@nb.njit(nogil=True, cache=True)
def _add(pair, total, count, largest, rows, table, used):  # type: ignore[no-untyped-def]
    """Add a contact to the row of its pair; returns how many rows there are."""
    pairs, sums, counts, maxima = rows
    keys, places = table
    last = np.uint64(keys.size - 1)
    # numbers that are near each other belong to fragments that are, so their rows are neighbours
    slot = ((pair >> np.uint64(32)) * np.uint64(8) + pair) & last
    while keys[slot] != 0 and keys[slot] != pair:
        slot = (slot + np.uint64(1)) & last
    if keys[slot] == 0:
        keys[slot] = pair
        places[slot] = used
        pairs[used], sums[used], counts[used], maxima[used] = pair, total, count, largest
        return used + 1
    row = places[slot]
    sums[row] += total
    counts[row] += count
    maxima[row] = max(maxima[row], largest)
    return used
