"""Paths: where climbing from each voxel of a block ends, or where it leaves the block.

A pointer is the place, in a voxel's 3 x 3 x 3 neighbourhood, of the best voxel there. A block is
traced slab by slab: each section on its own, or in three dimensions all at once. A slab's `ring` is
the voxels around it, one thick; paths that reach it have left the block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.kernels import kernel

if TYPE_CHECKING:
    from cadseg.arrays import Bytes, Heights, Ids, Integers, Numbers

NOWHERE = np.int32(np.iinfo(np.int32).min)
"""The height of what is masked or outside the domain: below all heights."""

_STAY, _MASKED = 13, 27  # pointers that are no step


@kernel
def traced(
    heights: Heights, gap: Integers, begin: Integers, size: Integers, full: Integers, in_3d: bool
) -> tuple[Numbers, Ids, Ids]:
    """Labels, ids and entries of a block, as in `cadseg.fragments.climb.Climb`; entries unsorted.

    Args:
        heights: [z, y, x] of the block and what is known of the two voxels around it.
        gap: where `heights` begin in the block grown by two voxels along the axes of the climb.
        begin: first voxel of the block.
        size: shape of the block.
        full: shape of the volume.
        in_3d: climb through sections.
    """
    ring = 1 if in_3d else 0  # of a slab, in z
    depth = size[0] if in_3d else 1
    pointers = np.empty((depth + 2 * ring, size[1] + 2, size[2] + 2), np.uint8)
    numbers = np.empty(pointers.shape, np.uint32)
    sections = np.full((3, size[1] + 4, size[2] + 4), NOWHERE)
    labels = np.empty((size[0], size[1], size[2]), np.uint32)
    ids, used = np.empty(1 << 10, np.uint64), 0
    sides = size[0] * (pointers.shape[1] + pointers.shape[2])
    entries, found = np.empty(2 * (sides + ring * pointers[0].size), np.uint64), 0
    for z in range(0, size[0], depth):
        first = np.array([begin[0] + z - ring, begin[1] - 1, begin[2] - 1])
        _point(heights, gap, z, in_3d, sections, pointers)
        found = _enter(pointers, ring, first, full, entries, found)
        numbers[:] = 0
        ids, used = _number(pointers, ring, first, full, numbers, ids, used)
        labels[z : z + depth] = numbers[ring : ring + depth, 1:-1, 1:-1]
    return labels, ids[:used].copy(), entries[:found]


@kernel
def _point(
    heights: Heights, gap: Integers, z: int, in_3d: bool, sections: Heights, out: Bytes
) -> None:
    """Pointers of the slab whose first section is `z` of the block, its ring included."""
    depth, ny, nx = out.shape
    best = np.empty(nx, np.int32)
    neighbours = range(27) if in_3d else range(9, 18)
    for at in range(depth):
        if in_3d:
            for ahead in range(0 if at == 0 else 2, 3):
                _place(heights, at + ahead, gap, sections[(at + ahead) % 3])
        else:
            _place(heights, z, gap, sections[1])
        for y in range(ny):
            # from the smallest index to the largest: of equals the last one is the best
            best[:] = NOWHERE
            for k in neighbours:
                row = sections[(at + k // 9) % 3, y + k // 3 % 3]
                _prefer(row[k % 3 :][:nx], k, best, out[at, y])
            _hide(sections[(at + 1) % 3, y + 1, 1:-1], out[at, y])


@kernel
def _place(heights: Heights, z: int, gap: Integers, out: Heights) -> None:
    """Section `z` of the grown block, with nothing where there are no heights."""
    _, ny, nx = heights.shape
    if z < gap[0] or z >= gap[0] + heights.shape[0]:
        out[:] = NOWHERE
        return
    for y in range(ny):
        out[y + gap[1], gap[2] : gap[2] + nx] = heights[z - gap[0], y]


@kernel
def _prefer(heights: Heights, pointer: int, best: Heights, pointers: Bytes) -> None:
    """Let voxels of a row point to neighbours that are at least as high as the best so far."""
    for x in range(best.size):
        higher = heights[x] >= best[x]
        best[x] = heights[x] if higher else best[x]
        pointers[x] = np.uint8(pointer) if higher else pointers[x]


@kernel
def _hide(heights: Heights, pointers: Bytes) -> None:
    for x in range(pointers.size):
        pointers[x] = np.uint8(_MASKED) if heights[x] == NOWHERE else pointers[x]


@kernel
def _steps(shape: tuple[int, ...]) -> Integers:
    """What pointers add to a linear index in an array of `shape`."""
    _, ny, nx = shape
    steps = [(k // 9 - 1) * ny * nx + (k // 3 % 3 - 1) * nx + k % 3 - 1 for k in range(27)]
    return np.array(steps)


@kernel
def _id(place: int, shape: tuple[int, ...], first: Integers, full: Integers) -> np.uint64:
    """Id of the voxel at a linear index in an array of `shape` whose first voxel is `first`."""
    z, row = divmod(place, shape[1] * shape[2])
    y, x = divmod(row, shape[2])
    return np.uint64(((z + first[0]) * full[1] + y + first[1]) * full[2] + x + first[2] + 1)


@kernel
def _enter(
    pointers: Bytes, ring: int, first: Integers, full: Integers, entries: Ids, found: int
) -> int:
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


@kernel
def _number(
    pointers: Bytes,
    ring: int,
    first: Integers,
    full: Integers,
    out: Numbers,
    ids: Ids,
    used: int,
) -> tuple[Ids, int]:
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
