"""Fragments: the basins of a climb over the heights, section by section or through them.

Every voxel points to the best of itself and its neighbours, by (height, global linear index): the
four in its section, or in three dimensions all six. Basins are the trees of these pointers, and a
fragment's id is the global linear index of its top voxel in the *full* volume, plus one. 0 is
background: masked voxels, to which no pointer leads.

A pointer is local, a path is not: `climb` labels each voxel of a block with its top, or with the
voxel through which its path leaves the block. `exits` are such voxels outside; an `entry` is a
voxel of the block through which a path of a neighbouring block comes in, with the label that it has
here. `follow` joins blocks: it sends exits along the entries of the blocks that they lead into.
Exits and entries are tables of ids (uint64), sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np

from cadseg.blocks import Roi, Zyx, open_sides

Ids = np.ndarray[Any, np.dtype[np.uint64]]
Labels = np.ndarray[Any, np.dtype[np.uint32]]

REACH = 2
"""Voxels beyond a block, along the axes of the climb, whose heights decide labels and entries."""

_NOWHERE = np.int32(np.iinfo(np.int32).min)
"""The height of what is masked or outside the domain: below all heights."""

_STAY, _MASKED = 3, 7
"""Pointers that are no step; the others are the places of their steps in `_steps`."""


@dataclass(frozen=True)
class Climb:
    """What climbing in one block finds.

    Attributes:
        labels: [z, y, x] uint32; 0 is background, and k stands for `ids[k - 1]`.
        ids: of the voxels at which paths end or leave, in the order of the first path.
        exits: voxels outside at which paths arrive.
        entries: voxels of the block at which paths arrive from outside.
        entry_labels: where paths from there end or leave, as ids.
    """

    labels: Labels
    ids: Ids
    exits: Ids
    entries: Ids
    entry_labels: Ids


def climb(
    heights: np.ndarray[Any, np.dtype[np.int32]],
    read: Roi,
    write: Roi,
    shape: Zyx,
    mask: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
    *,
    dimensions: int = 2,
) -> Climb:
    """Climb in the block `write` of a volume of `shape`.

    Args:
        heights: [z, y, x] int32 of `read`, which reaches REACH voxels beyond `write` along the axes
            of the climb, or to the domain's border.
        read: box of `heights`.
        write: box of the block.
        shape: of the full volume; gives the ids.
        mask: [z, y, x] of `read`, False where the fragment is 0; None: nowhere.
        dimensions: 2 to climb in sections, 3 through them.
    """
    if mask is not None:
        heights = np.where(mask, heights, _NOWHERE)
    reach = (REACH if dimensions == 3 else 0, REACH, REACH)
    near = write.grown(reach, reach).clipped(read)
    labels, ids, entries = _climb(
        heights[near.slices(read.begin)],
        np.array(near.begin, np.int64) - np.array(write.begin, np.int64) + np.array(reach),
        np.array(write.begin, np.int64),
        np.array(write.shape, np.int64),
        np.array(shape, np.int64),
        dimensions == 3,
    )
    entries = np.unique(entries)
    z, y, x = coordinates(entries, shape)
    inside = labels[z - write.begin[0], y - write.begin[1], x - write.begin[2]]
    exits = np.sort(ids[~within(ids, write, shape)])
    return Climb(labels, ids, exits, entries, ids[inside - np.uint32(1)])


def coordinates(ids: Ids, shape: Zyx) -> tuple[Any, Any, Any]:
    """The voxels, z y x, of ids in a volume of `shape`."""
    index = (ids - np.uint64(1)).astype(np.int64)
    yx = shape[1] * shape[2]
    return index // yx, index % yx // shape[2], index % shape[2]


def within(ids: Ids, roi: Roi, shape: Zyx) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of the ids' voxels lie in `roi`."""
    inside = np.ones(ids.shape, np.bool_)
    for axis, at in enumerate(coordinates(ids, shape)):
        inside &= (at >= roi.begin[axis]) & (at < roi.end[axis])
    return inside


def on_faces(ids: Ids, roi: Roi, domain: Roi, shape: Zyx) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of the ids' voxels, all in `roi`, lie on a face of it beyond which `domain` goes on."""
    found = np.zeros(ids.shape, np.bool_)
    places = coordinates(ids, shape)
    for axis, side in open_sides(roi, domain):
        found |= places[axis] == (roi.end[axis] - 1 if side else roi.begin[axis])
    return found


def follow(ids: Ids, entries: Ids, labels: Ids) -> Ids:
    """Where paths at the voxels `ids` end, once they have followed all `entries` that they meet.

    An id that is no entry stays: it is a top, or lies in none of the joined blocks. Paths climb,
    so they end; doubling the steps makes the rounds logarithmic in the longest path.
    """
    order = np.argsort(entries, kind="stable")
    entries, labels = entries[order], labels[order]
    while True:
        further = lookup(labels, entries, labels)
        if np.array_equal(further, labels):
            break
        labels = further
    return lookup(ids, entries, labels)


def lookup(ids: Ids, keys: Ids, values: Ids) -> Ids:
    """`values` at the places of `ids` in the sorted `keys`; an id that is no key stays itself."""
    if keys.size == 0:
        return ids.copy()
    place = np.minimum(np.searchsorted(keys, ids), keys.size - 1)
    return np.where(keys[place] == ids, values[place], ids)


@nb.njit(nogil=True, cache=True)
def _climb(heights, gap, begin, size, full, deep):  # type: ignore[no-untyped-def]
    """Labels, ids and entries; `gap` is where `heights` begin in the block grown by its reach."""
    ring = 1 if deep else 0  # of a slab, in z
    depth = size[0] if deep else 1
    pointers = np.empty((depth + 2 * ring, size[1] + 2, size[2] + 2), np.uint8)
    numbers = np.empty(pointers.shape, np.uint32)
    sections = np.full((3, size[1] + 4, size[2] + 4), _NOWHERE)
    labels = np.empty((size[0], size[1], size[2]), np.uint32)
    ids, used = np.empty(1 << 10, np.uint64), 0
    sides = size[0] * (pointers.shape[1] + pointers.shape[2])
    entries, found = np.empty(2 * (sides + ring * pointers[0].size), np.uint64), 0
    for z in range(0, size[0], depth):
        first = np.array([begin[0] + z - ring, begin[1] - 1, begin[2] - 1])
        _point(heights, gap, z, deep, sections, pointers)
        found = _enter(pointers, ring, first, full, entries, found)
        numbers[:] = 0
        ids, used = _number(pointers, ring, first, full, numbers, ids, used)
        labels[z : z + depth] = numbers[ring : ring + depth, 1:-1, 1:-1]
    return labels, ids[:used].copy(), entries[:found]


@nb.njit(nogil=True, cache=True)
def _point(heights, gap, z, deep, sections, out):  # type: ignore[no-untyped-def]
    """Pointers of the slab whose first section is `z` of the block, its ring included."""
    depth, ny, _ = out.shape
    for at in range(depth):
        below, middle, above = sections[at % 3], sections[(at + 1) % 3], sections[(at + 2) % 3]
        if not deep:
            _place(heights, z, gap, middle)
        elif at == 0:
            _place(heights, 0, gap, below)
            _place(heights, 1, gap, middle)
        if deep:
            _place(heights, at + 2, gap, above)
        for y in range(ny):
            _point_row(
                below[y + 1, 1:-1],
                middle[y, 1:-1],
                middle[y + 1],
                middle[y + 2, 1:-1],
                above[y + 1, 1:-1],
                out[at, y],
            )


@nb.njit(nogil=True, cache=True)
def _place(heights, z, gap, out):  # type: ignore[no-untyped-def]
    """Section `z` of the grown block, with nothing where there are no heights."""
    _, ny, nx = heights.shape
    if z < gap[0] or z >= gap[0] + heights.shape[0]:
        out[:] = _NOWHERE
        return
    for y in range(ny):
        out[y + gap[1], gap[2] : gap[2] + nx] = heights[z - gap[0], y]


@nb.njit(nogil=True, cache=True)
def _point_row(below, back, row, front, above, out):  # type: ignore[no-untyped-def]
    """Pointers of a row, whose neighbours in x are one voxel longer on both sides."""
    left, here, right = row[:-2], row[1:-1], row[2:]
    for x in range(out.size):
        # from the smallest index to the largest: of equals the last one is the best
        best, step = below[x], np.int32(0)
        step = np.int32(1) if back[x] >= best else step
        best = max(best, back[x])
        step = np.int32(2) if left[x] >= best else step
        best = max(best, left[x])
        step = np.int32(_STAY) if here[x] >= best else step
        best = max(best, here[x])
        step = np.int32(4) if right[x] >= best else step
        best = max(best, right[x])
        step = np.int32(5) if front[x] >= best else step
        best = max(best, front[x])
        step = np.int32(6) if above[x] >= best else step
        out[x] = _MASKED if here[x] == _NOWHERE else step


@nb.njit(nogil=True, cache=True)
def _steps(shape):  # type: ignore[no-untyped-def]
    """What pointers add to a linear index in an array of `shape`."""
    _, ny, nx = shape
    return np.array([-ny * nx, -nx, -1, 0, 1, nx, ny * nx])


@nb.njit(nogil=True, cache=True)
def _id(place, shape, first, full):  # type: ignore[no-untyped-def]
    """Id of the voxel at a linear index in an array of `shape` whose first voxel is `first`."""
    z, row = divmod(place, shape[1] * shape[2])
    y, x = divmod(row, shape[2])
    return np.uint64(((z + first[0]) * full[1] + y + first[1]) * full[2] + x + first[2] + 1)


@nb.njit(nogil=True, cache=True)
def _enter(pointers, ring, first, full, entries, found):  # type: ignore[no-untyped-def]
    """Add ids of voxels to which a slab's ring points to `entries`; then the ring stays put."""
    nz, ny, nx = pointers.shape
    flat, steps = pointers.ravel(), _steps(pointers.shape)
    for z in range(nz):
        for y in range(ny):
            whole = y == 0 or y == ny - 1 or z < ring or z >= nz - ring
            for x in range(0, nx, 1 if whole else nx - 1):
                place = (z * ny + y) * nx + x
                if flat[place] == _MASKED:
                    continue
                at = place + steps[flat[place]]
                flat[place] = _STAY
                inside = ring <= at // (ny * nx) < nz - ring
                if inside and 0 < at // nx % ny < ny - 1 and 0 < at % nx < nx - 1:
                    entries[found] = _id(at, pointers.shape, first, full)
                    found += 1
    return found


@nb.njit(nogil=True, cache=True)
def _number(pointers, ring, first, full, out, ids, used):  # type: ignore[no-untyped-def]
    """Number a slab's voxels by where their paths end; the ids of these ends go on `ids`."""
    nz, ny, nx = pointers.shape
    flat, numbers, steps = pointers.ravel(), out.ravel(), _steps(pointers.shape)
    for z in range(ring, nz - ring):
        for y in range(1, ny - 1):
            row = (z * ny + y) * nx
            for start in range(row + 1, row + nx - 1):
                if numbers[start] != 0 or flat[start] == _MASKED:
                    continue
                at = start
                while numbers[at] == 0 and flat[at] != _STAY:
                    at += steps[flat[at]]
                if numbers[at] == 0:
                    if used == ids.size:
                        ids = np.concatenate((ids, np.empty_like(ids)))
                    ids[used] = _id(at, pointers.shape, first, full)
                    used += 1
                    numbers[at] = used
                number = numbers[at]
                at = start
                while numbers[at] == 0:
                    numbers[at] = number
                    at += steps[flat[at]]
    return ids, used
