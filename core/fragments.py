"""Fragments: the basins of a climb over the heights, section by section.

Every voxel points to the best of itself and its four neighbours in the section, by (height, global
linear index); basins are the trees of these pointers, and a fragment's id is the global linear
index of its top voxel in the *full* volume, plus one. 0 is background: masked voxels, to which no
pointer leads.

A pointer is local, a path is not: `climb` labels each voxel of a block with its top, or with the
voxel through which its path leaves the block (both as ids). `exits` are such voxels outside; an
`entry` is a voxel of the block through which a path of a neighbouring block comes in, with the
label that it has here. `follow` joins blocks: it sends exits along the entries of the blocks that
they lead into. All three are tables of ids (uint64), sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np

from cadseg.blocks import Roi, Zyx, open_sides

Ids = np.ndarray[Any, np.dtype[np.uint64]]

REACH = 2
"""Voxels beyond a block, in y and x, whose heights decide its labels and entries."""


@dataclass(frozen=True)
class Climb:
    """What climbing in one block finds.

    Attributes:
        labels: [z, y, x] uint64, id of a voxel's top, or of the voxel where its path leaves.
        exits: voxels outside at which paths arrive.
        entries: voxels of the block at which paths arrive from outside.
        entry_labels: their labels.
    """

    labels: Ids
    exits: Ids
    entries: Ids
    entry_labels: Ids


def climb(
    heights: np.ndarray[Any, np.dtype[np.int32]],
    read: Roi,
    write: Roi,
    shape: Zyx,
    mask: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
) -> Climb:
    """Climb in the block `write` of a volume of `shape`.

    Args:
        heights: [z, y, x] int32 of `read`, which reaches REACH voxels beyond `write` in y and x,
            or to the domain's border.
        read: box of `heights`.
        write: box of the block.
        shape: of the full volume; gives the ids.
        mask: [z, y, x] of `read`, False where the fragment is 0; None: nowhere.
    """
    if mask is None:
        mask = np.ones(heights.shape, np.bool_)
    offset = np.array([w - r for w, r in zip(write.begin, read.begin, strict=True)], np.int64)
    size = np.array(write.shape, np.int64)
    origin = np.array(read.begin, np.int64)
    full = np.array(shape, np.int64)
    labels, exits = _climb(heights, mask, offset, size, origin, full)
    entries = np.unique(_entries(heights, mask, offset, size, origin, full))
    z, y, x = coordinates(entries, shape)
    inside = labels[z - write.begin[0], y - write.begin[1], x - write.begin[2]]
    return Climb(labels, np.unique(exits), entries, inside)


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
def _pointer(heights, mask, z, y, x):  # type: ignore[no-untyped-def]
    """Step (dy, dx) from a voxel to the best of itself and its neighbours."""
    ny, nx = heights.shape[1:]
    best = heights[z, y, x]
    dy, dx = 0, 0
    # in ascending linear index, so that >= prefers the larger index and > the smaller
    if y > 0 and mask[z, y - 1, x] and heights[z, y - 1, x] > best:
        best, dy, dx = heights[z, y - 1, x], -1, 0
    if x > 0 and mask[z, y, x - 1]:
        other = heights[z, y, x - 1]
        if other > best or (other == best and dy == -1):
            best, dy, dx = other, 0, -1
    if x + 1 < nx and mask[z, y, x + 1] and heights[z, y, x + 1] >= best:
        best, dy, dx = heights[z, y, x + 1], 0, 1
    if y + 1 < ny and mask[z, y + 1, x] and heights[z, y + 1, x] >= best:
        best, dy, dx = heights[z, y + 1, x], 1, 0
    return dy, dx


@nb.njit(nogil=True, cache=True)
def _climb(heights, mask, offset, size, origin, full):  # type: ignore[no-untyped-def]
    nz, ny, nx = size[0], size[1], size[2]
    labels = np.zeros((nz, ny, nx), np.uint64)
    path = np.empty(ny * nx, np.int64)
    exits = nb.typed.List.empty_list(nb.uint64)
    for z in range(nz):
        rz = z + offset[0]
        base = (rz + origin[0]) * full[1]
        for start in range(ny * nx):
            y, x = start // nx, start % nx
            if labels[z, y, x] != 0 or not mask[rz, y + offset[1], x + offset[2]]:
                continue
            length = 0
            label = np.uint64(0)
            while label == 0:
                path[length] = y * nx + x
                length += 1
                dy, dx = _pointer(heights, mask, rz, y + offset[1], x + offset[2])
                y, x = y + dy, x + dx
                leaves = y < 0 or x < 0 or y >= ny or x >= nx
                if leaves or (dy == 0 and dx == 0):
                    row = base + y + offset[1] + origin[1]
                    label = np.uint64(row * full[2] + x + offset[2] + origin[2] + 1)
                    if leaves:
                        exits.append(label)
                else:
                    label = labels[z, y, x]
            for i in range(length):
                labels[z, path[i] // nx, path[i] % nx] = label
    out = np.empty(len(exits), np.uint64)
    for i in range(len(exits)):
        out[i] = exits[i]
    return labels, out


@nb.njit(nogil=True, cache=True)
def _entries(heights, mask, offset, size, origin, full):  # type: ignore[no-untyped-def]
    """Ids of voxels of the block to which a neighbour outside it points."""
    nz, ny, nx = size[0], size[1], size[2]
    out = np.empty(nz * 2 * (ny + nx), np.uint64)
    count = 0
    for z in range(nz):
        rz = z + offset[0]
        for side in range(2 * (ny + nx)):
            if side < 2 * nx:
                y, x = (-1 if side < nx else ny), side % nx
            else:
                y, x = (side - 2 * nx) % ny, (-1 if side < 2 * nx + ny else nx)
            ry, rx = y + offset[1], x + offset[2]
            if ry < 0 or rx < 0 or ry >= heights.shape[1] or rx >= heights.shape[2]:
                continue
            if not mask[rz, ry, rx]:
                continue
            dy, dx = _pointer(heights, mask, rz, ry, rx)
            y, x = y + dy, x + dx
            if 0 <= y < ny and 0 <= x < nx:
                row = (rz + origin[0]) * full[1] + y + offset[1] + origin[1]
                out[count] = row * full[2] + x + offset[2] + origin[2] + 1
                count += 1
    return out[:count]
