"""Edges of the graph of touching fragments, counted block by block.

``affinities[axis, z, y, x]`` joins a voxel and its *lower* neighbour along ``axis`` (0 = z, 1 = y,
2 = x), an unsigned integer. A pair of voxels belongs to the block that writes its upper voxel, so
every pair is counted once, and sums, counts and maxima of blocks add up exactly, whatever their
shape. Fragment 0 has no edges. Rows are ``u < v``, sorted by (u, v).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np

from cadseg.blocks import Roi, Zyx, open_sides
from cadseg.hashing import grown, slot_of

Ids = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Edges:
    """Contacts of pairs of fragments, as far as one block sees them.

    Attributes:
        u: smaller fragment id.
        v: larger fragment id.
        sum: of the affinities of all voxel pairs between the two, uint64.
        count: of the voxel pairs, uint64.
        max: of the affinities, uint32.
    """

    u: Ids
    v: Ids
    sum: Ids
    count: Ids
    max: np.ndarray[Any, np.dtype[np.uint32]]


@dataclass(frozen=True)
class Faces:
    """Fragments on open faces of a block: sorted ids, and one bit per face (z-, z+, y-, ...)."""

    fragment: Ids
    faces: np.ndarray[Any, np.dtype[np.uint8]]


def edges_of(affinities: np.ndarray[Any, Any], fragments: Ids, lower: Zyx) -> Edges:
    """The edges that a block counts.

    Args:
        affinities: [3, z, y, x] unsigned integers of the block's own voxels.
        fragments: [z, y, x] uint64 of the block and `lower` voxels below it per axis.
        lower: 1 per axis along which the block has lower neighbours, 0 where the domain begins.
    """
    compact, ids = _compact(fragments)
    pair, total, count, largest = _count(affinities, compact, np.array(lower, np.int64))
    u, v = ids[pair >> np.uint64(32)], ids[pair & np.uint64(0xFFFFFFFF)]
    u, v = np.minimum(u, v), np.maximum(u, v)
    order = np.lexsort((v, u))
    return Edges(u[order], v[order], total[order], count[order], largest[order])


def faces_of(fragments: Ids, lower: Zyx, write: Roi, domain: Roi) -> Faces:
    """Fragments at the faces of a block beyond which the domain goes on.

    These are all fragments that the block knows of and that may go on, or have neighbours, outside
    it: those with a voxel on such a face, and those just beyond a lower face, with whose voxels the
    block counts edges. `fragments` and `lower` are those of `edges_of`.
    """
    found = [(np.empty(0, np.uint64), 0)]
    for axis, side in open_sides(write, domain):
        block = [slice(n, None) for n in lower]
        block[axis] = slice(-1, None) if side else slice(0, 2)
        ids = np.unique(fragments[tuple(block)])
        found.append((ids[ids != 0], _bit(axis, side)))
    return _combined(found)


def outer_faces(children: list[tuple[Roi, Faces]], write: Roi, domain: Roi) -> Faces:
    """Fragments on the open faces of the block `write`, from those of the blocks inside it."""
    found = [(np.empty(0, np.uint64), 0)]
    for child, faces in children:
        for axis, side in open_sides(write, domain):
            shared = (child.end if side else child.begin)[axis] == (
                write.end if side else write.begin
            )[axis]
            if shared:
                bit = _bit(axis, side)
                found.append((faces.fragment[(faces.faces & bit) != 0], bit))
    return _combined(found)


def _bit(axis: int, side: int) -> int:
    return 1 << (2 * axis + side)


def _combined(found: list[tuple[Ids, int]]) -> Faces:
    ids = np.concatenate([ids for ids, _ in found])
    bits = np.concatenate([np.full(ids.size, bit, np.uint8) for ids, bit in found])
    fragment, place = np.unique(ids, return_inverse=True)
    faces = np.zeros(fragment.size, np.uint8)
    np.bitwise_or.at(faces, place, bits)
    return Faces(fragment, faces)


@nb.njit(nogil=True, cache=True)
def _compact(fragments):  # type: ignore[no-untyped-def]
    """Fragments as numbers 1, 2, ... in the order of their first voxel, and the ids behind them."""
    nz, ny, nx = fragments.shape
    out = np.zeros(fragments.shape, np.uint32)
    keys = np.zeros(1 << 12, np.uint64)
    values = np.zeros(1 << 12, np.uint32)
    ids = np.zeros(1 << 12, np.uint64)
    used = 1
    for z in range(nz):
        for y in range(ny):
            last_id = np.uint64(0)
            last_number = np.uint32(0)
            for x in range(nx):
                fragment = fragments[z, y, x]
                if fragment != last_id:
                    last_id = fragment
                    last_number = np.uint32(0)
                    if fragment != 0:
                        if 2 * used > keys.size:
                            keys, values = grown(keys, values)
                        slot = slot_of(keys, fragment)
                        if keys[slot] == 0:
                            keys[slot] = fragment
                            values[slot] = used
                            if used == ids.size:
                                ids = np.concatenate((ids, np.zeros_like(ids)))
                            ids[used] = fragment
                            used += 1
                        last_number = values[slot]
                out[z, y, x] = last_number
    return out, ids[:used]


@nb.njit(nogil=True, cache=True)
def _count(affinities, fragments, lower):  # type: ignore[no-untyped-def]
    """Contacts of all pairs of compact numbers: (larger << 32 | smaller), sum, count, max."""
    _, nz, ny, nx = affinities.shape
    keys = np.zeros(1 << 12, np.uint64)
    values = np.zeros(1 << 12, np.uint32)
    pairs = np.zeros(1 << 12, np.uint64)
    sums = np.zeros(1 << 12, np.uint64)
    counts = np.zeros(1 << 12, np.uint64)
    largest = np.zeros(1 << 12, np.uint32)
    used = 0
    for axis in range(3):
        dz, dy, dx = np.int64(axis == 0), np.int64(axis == 1), np.int64(axis == 2)
        for z in range(0 if lower[0] else dz, nz):
            for y in range(0 if lower[1] else dy, ny):
                last_pair = np.uint64(0)
                row = 0
                for x in range(0 if lower[2] else dx, nx):
                    upper_one = fragments[z + lower[0], y + lower[1], x + lower[2]]
                    lower_one = fragments[z + lower[0] - dz, y + lower[1] - dy, x + lower[2] - dx]
                    if upper_one == lower_one or upper_one == 0 or lower_one == 0:
                        continue
                    high, low = max(upper_one, lower_one), min(upper_one, lower_one)
                    pair = (np.uint64(high) << np.uint64(32)) | np.uint64(low)
                    if pair != last_pair:
                        if 2 * used > keys.size - 2:
                            keys, values = grown(keys, values)
                        slot = slot_of(keys, pair)
                        if keys[slot] == 0:
                            keys[slot] = pair
                            values[slot] = used
                            if used == pairs.size:
                                pairs = np.concatenate((pairs, np.zeros_like(pairs)))
                                sums = np.concatenate((sums, np.zeros_like(sums)))
                                counts = np.concatenate((counts, np.zeros_like(counts)))
                                largest = np.concatenate((largest, np.zeros_like(largest)))
                            pairs[used] = pair
                            used += 1
                        row = values[slot]
                        last_pair = pair
                    affinity = affinities[axis, z, y, x]
                    sums[row] += np.uint64(affinity)
                    counts[row] += np.uint64(1)
                    largest[row] = max(largest[row], np.uint32(affinity))
    return pairs[:used], sums[:used], counts[:used], largest[:used]
