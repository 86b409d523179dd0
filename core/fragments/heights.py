"""Heights: how far inside a cell each voxel lies, as integers, in sections or in the volume.

``affinities`` are those along the axes that count, [axes, z, y, x] uint8: y and x in sections, or
z, y and x in the volume; the belief that a voxel and its lower neighbour along that axis are one
cell. A voxel is *boundary* where their mean is at most one half. Its height is the distance to the
nearest voxel of the other kind (negative on boundaries), clipped, lowered by the voxel's own
boundary strength b = 1 - mean, and smoothed with a truncated Gaussian.

All arithmetic is on integers, and every voxel's height depends on at most `halo` voxels around it,
so heights do not depend on the block in which they are computed. At the domain's border it simply
ends: what is outside counts neither as cell nor as boundary, and the affinity of its first section
(row, column), which joins it to nothing, is taken from the second.

A section is a volume [y, 1, x]: one method does for both. Its inner loops run along whole rows, on
the smallest integers that hold the numbers, so that compilers turn them into vectors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.kernels import kernel

if TYPE_CHECKING:
    from cadseg.arrays import Bytes, Flags, Heights

Small = np.ndarray[Any, np.dtype[np.int16]]
"""Sums of affinities, or squares of distances."""

DISTANCE_UNIT = 16
"""Steps per voxel in which distances are rounded."""

_WEIGHT_BITS = 12  # of a Gaussian's sum
_SHIFT = 5  # what is smoothed once loses so many bits, so that 64 + 16 voxels fit in the end
HEIGHT_UNIT = DISTANCE_UNIT << (2 * _WEIGHT_BITS - _SHIFT)
"""Height of one voxel of distance."""

_TOP = 255  # affinity of one cell


def halo(distance_clip: int, sigma: float) -> int:
    """Voxels along the axes that count on which a height depends, on each side."""
    return distance_clip - 1 + _radius(sigma)


def heights(
    affinities: Bytes,
    *,
    distance_clip: int,
    sigma: float,
    boundary_weight: float,
    first: tuple[bool, ...] | None = None,
) -> Heights:
    """Heights [z, y, x] int32 of `affinities`, in units of 1 / HEIGHT_UNIT voxels.

    Args:
        affinities: [2, z, y, x] of y and x for heights in sections, [3, z, y, x] for the volume.
        distance_clip: distances beyond it are all alike, in voxels.
        sigma: of the Gaussian, in voxels; it is cut off at four sigma.
        boundary_weight: what b = 1 takes off the height before smoothing, in voxels.
        first: whether the array begins where the domain does, per axis of `affinities`; None: it
            does.
    """
    axes, nz, ny, nx = affinities.shape
    begins = np.array(first or (True,) * axes)
    numbers = (distance_clip, _gaussian(sigma), round(boundary_weight * DISTANCE_UNIT), axes * _TOP)
    out = np.empty((nz, ny, nx), np.int32)
    if axes == 3:
        _heights(_beliefs(affinities, begins), *numbers, out)
        return out
    for z in range(nz):
        beliefs = _beliefs(affinities[:, z : z + 1], begins)
        _heights(beliefs.reshape(ny, 1, nx), *numbers, out[z].reshape(ny, 1, nx))
    return out


def _radius(sigma: float) -> int:
    return math.ceil(4 * sigma)


def _gaussian(sigma: float) -> Heights:
    """Integer weights of a Gaussian cut off at four sigma, summing to 1 << _WEIGHT_BITS."""
    offsets = np.arange(-_radius(sigma), _radius(sigma) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    whole: Heights = np.rint(weights / weights.sum() * (1 << _WEIGHT_BITS)).astype(np.int32)
    whole[len(whole) // 2] += (1 << _WEIGHT_BITS) - whole.sum()
    return whole


@kernel
def _beliefs(affinities: Bytes, first: Flags) -> Small:
    """Sum of a voxel's affinities, [z, y, x] int16."""
    axes, nz, ny, nx = affinities.shape
    out = np.zeros((nz, ny, nx), np.int16)
    for axis in range(axes):
        lower = [0, 0, 0]  # along the axis, the first voxel with an affinity
        lower[3 - axes + axis] = 1 if first[axis] else 0
        for z in range(nz):
            for y in range(ny):
                source_z, source_y, row = max(z, lower[0]), max(y, lower[1]), out[z, y]
                if source_z == nz or source_y == ny or lower[2] == nx:  # alone: surely a cell
                    row += np.int16(_TOP)
                    continue
                source = affinities[axis, source_z, source_y]
                for x in range(nx):
                    row[x] += np.int16(source[x])
                if lower[2] == 1:
                    row[0] += np.int16(source[1]) - np.int16(source[0])
    return out


@kernel
def _heights(
    beliefs: Small, clip: int, weights: Heights, boundary: int, top: int, out: Heights
) -> None:
    """Heights of a volume from its beliefs, which are at most `top`."""
    nz, ny, nx = beliefs.shape
    radius = weights.size // 2
    gaps = np.empty(beliefs.shape, np.uint8)  # to the next voxel of the other kind below
    gaps[0] = clip
    for z in range(1, nz):
        for y in range(ny):
            _gap(beliefs[z, y], beliefs[z - 1, y], gaps[z - 1, y], top, clip, gaps[z, y])
    above = np.full((ny, nx), clip, np.uint8)
    squares = np.empty((2, ny, nx), np.int16)
    line = np.full((2, nx + 2 * clip), clip * clip, np.int16)
    nearest = np.empty((2, nx), np.int16)
    field = np.empty(nx + 2 * radius, np.int32)
    for z in range(nz - 1, -1, -1):
        for y in range(ny):
            if z + 1 < nz:
                _gap(beliefs[z, y], beliefs[z + 1, y], above[y], top, clip, above[y])
            _square(beliefs[z, y], gaps[z, y], above[y], top, squares[0, y], squares[1, y])
        for y in range(ny):
            for kind in range(2):
                _nearest_in_section(squares[kind], y, clip, line[kind, clip : clip + nx])
                _nearest_in_row(line[kind], clip, nearest[kind])
            row = field[radius : radius + nx]
            _unsmoothed(beliefs[z, y], nearest[0], nearest[1], boundary, top, row)
            field[:radius], field[radius + nx :] = row[0], row[nx - 1]
            _smooth_row(field, weights, out[z, y])
    _smooth_across(out, weights)


@kernel
def _gap(here: Small, there: Small, gap: Bytes, top: int, clip: int, out: Bytes) -> None:
    """Distances along z to the next voxel of the other kind on one side.

    Args:
        here: beliefs of a row.
        there: those of the next row on that side.
        gap: the distances of that row.
        top: largest belief.
        clip: largest distance.
        out: distances of the row.
    """
    for x in range(out.size):
        same = (2 * np.int32(here[x]) > top) == (2 * np.int32(there[x]) > top)
        further = min(np.uint8(gap[x] + np.uint8(1)), np.uint8(clip))
        out[x] = further if same else np.uint8(1)


@kernel
def _square(
    here: Small, below: Bytes, above: Bytes, top: int, cell: Small, boundary: Small
) -> None:
    """Squares of distances along z: of cells to the next boundary, of boundaries to a cell."""
    for x in range(here.size):
        gap = np.int16(min(below[x], above[x]))
        inside = 2 * np.int32(here[x]) > top
        cell[x] = np.int16(gap * gap) if inside else np.int16(0)
        boundary[x] = np.int16(0) if inside else np.int16(gap * gap)


@kernel
def _nearest_in_section(squares: Small, y: int, clip: int, out: Small) -> None:
    """Squares of distances in z and y, from those along z; exact up to the clip."""
    out[:] = squares[y]
    for away in range(1, min(clip, len(squares))):
        if y >= away:
            _nearer(squares[y - away], squares[max(y - away, 0)], away * away, out)
        if y + away < len(squares):
            _nearer(squares[y + away], squares[y + away], away * away, out)


@kernel
def _nearest_in_row(line: Small, clip: int, out: Small) -> None:
    """Squares of distances in z, y and x, from a row of those in z and y.

    The row has `clip` voxels more on both sides.
    """
    n = out.size
    out[:] = line[clip : clip + n]
    for away in range(1, clip):
        left, right = line[clip - away :][:n], line[clip + away :][:n]
        _nearer(left, right, away * away, out)


@kernel
def _nearer(one: Small, other: Small, square: int, out: Small) -> None:
    for x in range(out.size):
        out[x] = min(out[x], np.int16(min(one[x], other[x]) + np.int16(square)))


@kernel
def _unsmoothed(
    beliefs: Small, cell: Small, other: Small, boundary: int, top: int, out: Heights
) -> None:
    """Signed distances in steps, less the boundary strength; one of the two squares is 0."""
    for x in range(out.size):
        square = np.float32(max(cell[x], other[x]))  # floats hold all these numbers exactly
        distance = np.int32(np.sqrt(square) * np.float32(DISTANCE_UNIT) + np.float32(0.5))
        lack = np.float32(boundary * (top - np.int32(beliefs[x]))) / np.float32(top)
        out[x] = (distance if cell[x] > 0 else -distance) - np.int32(lack)


@kernel
def _smooth_row(field: Heights, weights: Heights, out: Heights) -> None:
    """Smooth a row that has a radius more on both sides."""
    n, radius = out.size, weights.size // 2
    out[:] = 0
    for k in range(radius):
        _add(field[k : k + n], field[2 * radius - k :][:n], weights[k], out)
    middle = field[radius : radius + n]
    for x in range(n):
        out[x] = (out[x] + weights[radius] * middle[x]) >> _SHIFT


@kernel
def _smooth_across(out: Heights, weights: Heights) -> None:
    """Smooth rows across y, then z."""
    nz, ny, nx = out.shape
    rows = np.empty((max(nz, ny), nx), np.int32)
    for z in range(nz if ny > 1 else 0):
        rows[:ny] = out[z]
        for y in range(ny):
            _smooth(rows[:ny], y, weights, out[z, y])
            out[z, y] >>= _WEIGHT_BITS
    for y in range(ny):
        for z in range(nz):
            rows[z] = out[z, y]
        for z in range(nz):
            _smooth(rows[:nz], z, weights, out[z, y])


@kernel
def _smooth(rows: Heights, at: int, weights: Heights, out: Heights) -> None:
    radius, last = weights.size // 2, len(rows) - 1
    middle = rows[at]
    for x in range(out.size):
        out[x] = weights[radius] * middle[x]
    for k in range(1, radius + 1):
        _add(rows[max(at - k, 0)], rows[min(at + k, last)], weights[radius - k], out)


@kernel
def _add(one: Heights, other: Heights, weight: int, out: Heights) -> None:
    for x in range(out.size):
        out[x] += weight * (one[x] + other[x])
