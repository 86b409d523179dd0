"""Heights: how far inside a cell each voxel lies, as integers, section by section.

``affinities[0]`` and ``affinities[1]`` are the y and x affinities, [z, y, x] unsigned, 0..`top`:
the belief that a voxel and its lower neighbour along that axis are one cell. A voxel is *boundary*
where their mean is at most one half. Its height is the distance to the nearest voxel of the other
kind (negative on boundaries), clipped, smoothed with a truncated Gaussian, and lowered by the
voxel's own boundary strength b = 1 - mean.

All arithmetic is on integers, and every voxel's height depends on at most `halo` voxels around it,
so heights do not depend on the block in which they are computed. At the domain's border sections
simply end: what is outside counts neither as cell nor as boundary, and the affinity of its first
row (column), which joins it to nothing, is taken from the second.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np

Heights = np.ndarray[Any, np.dtype[np.int32]]

DISTANCE_UNIT = 16
"""Steps per voxel in which distances are rounded."""

_WEIGHT_SUM = 4096
_SHIFT = 5
HEIGHT_UNIT = DISTANCE_UNIT * _WEIGHT_SUM * _WEIGHT_SUM >> _SHIFT
"""Height of one voxel of distance."""


def halo(distance_clip: int, sigma: float) -> int:
    """Voxels in y and x on which a height depends, on each side."""
    return distance_clip + _radius(sigma)


def heights(
    affinities: np.ndarray[Any, Any],
    *,
    distance_clip: int,
    sigma: float,
    boundary_weight: float,
    first: tuple[bool, bool] = (True, True),
) -> Heights:
    """Heights [z, y, x] int32 of `affinities` [2, z, y, x], in units of 1 / HEIGHT_UNIT voxels.

    Args:
        affinities: of y and x, unsigned integers up to the dtype's largest.
        distance_clip: distances beyond it are all alike, in voxels.
        sigma: of the Gaussian, in voxels; it is cut off at four sigma.
        boundary_weight: what b = 1 takes off the height before smoothing, in voxels.
        first: whether the array begins at the domain's first row, and its first column.
    """
    top = int(np.iinfo(affinities.dtype).max)
    squares = np.arange(distance_clip * distance_clip + 1)
    distances = np.rint(np.sqrt(squares) * DISTANCE_UNIT).astype(np.int32)
    field: Heights = _heights(
        affinities,
        top,
        distance_clip,
        distances,
        _gaussian(sigma),
        round(boundary_weight * DISTANCE_UNIT),
        first[0],
        first[1],
    )
    return field


def _radius(sigma: float) -> int:
    return math.ceil(4 * sigma)


def _gaussian(sigma: float) -> Heights:
    """Integer weights of a Gaussian cut off at four sigma, summing to _WEIGHT_SUM."""
    offsets = np.arange(-_radius(sigma), _radius(sigma) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    whole: Heights = np.rint(weights / weights.sum() * _WEIGHT_SUM).astype(np.int32)
    whole[len(whole) // 2] += _WEIGHT_SUM - whole.sum()
    return whole


@nb.njit(nogil=True, cache=True)
def _heights(affinities, top, clip, distances, weights, boundary, first_y, first_x):  # type: ignore[no-untyped-def]
    _, nz, ny, nx = affinities.shape
    out = np.empty((nz, ny, nx), np.int32)
    mean2 = np.empty((ny, nx), np.int64)  # twice the mean of the two affinities
    inside = np.empty((ny, nx), np.int32)
    gap2 = np.empty((ny, nx), np.int32)
    field = np.empty((ny, nx), np.int32)
    rows = np.empty((ny, nx), np.int32)
    for z in range(nz):
        _sum_affinities(affinities[0, z], affinities[1, z], top, first_y, first_x, mean2)
        for y in range(ny):
            for x in range(nx):
                inside[y, x] = 1 if mean2[y, x] > top else 0
        _gaps_in_rows(inside, clip, gap2)
        _distances(inside, gap2, clip, distances, field)
        for y in range(ny):
            for x in range(nx):
                field[y, x] -= boundary * (2 * top - mean2[y, x]) // (2 * top)
        _smooth_rows(field, weights, rows)
        _smooth_columns(rows, weights, out[z])
    return out


@nb.njit(nogil=True, cache=True)
def _sum_affinities(along_y, along_x, top, first_y, first_x, out):  # type: ignore[no-untyped-def]
    ny, nx = along_y.shape
    for y in range(ny):
        row = y if y > 0 or not first_y else min(1, ny - 1)
        for x in range(nx):
            out[y, x] = np.int64(along_y[row, x]) + np.int64(along_x[y, x])
    if first_x:
        for y in range(ny):
            row = y if y > 0 or not first_y else min(1, ny - 1)
            out[y, 0] = np.int64(along_y[row, 0]) + np.int64(along_x[y, min(1, nx - 1)])
    if first_y and ny == 1:
        for x in range(nx):
            out[0, x] += top - np.int64(along_y[0, x])
    if first_x and nx == 1:
        for y in range(ny):
            out[y, 0] += top - np.int64(along_x[y, 0])


@nb.njit(nogil=True, cache=True)
def _gaps_in_rows(inside, clip, out):  # type: ignore[no-untyped-def]
    """Squared distance within the row to the nearest voxel of the other kind, at most clip²."""
    ny, nx = inside.shape
    for y in range(ny):
        gap = clip
        for x in range(nx):
            if x > 0 and inside[y, x] != inside[y, x - 1]:
                gap = 0
            gap = min(gap + 1, clip)
            out[y, x] = gap
        gap = clip
        for x in range(nx - 1, -1, -1):
            if x < nx - 1 and inside[y, x] != inside[y, x + 1]:
                gap = 0
            gap = min(gap + 1, clip)
            out[y, x] = min(out[y, x], gap) ** 2


@nb.njit(nogil=True, cache=True)
def _distances(inside, gap2, clip, distances, out):  # type: ignore[no-untyped-def]
    """Signed, clipped, rounded distance to the nearest voxel of the other kind."""
    ny, nx = inside.shape
    best = np.empty(nx, np.int32)
    for y in range(ny):
        best[:] = gap2[y]
        for dy in range(1, clip):
            if y - dy < 0 and y + dy >= ny:
                break
            if y - dy >= 0:
                _nearer(inside[y], inside[y - dy], gap2[y - dy], dy * dy, best)
            if y + dy < ny:
                _nearer(inside[y], inside[y + dy], gap2[y + dy], dy * dy, best)
        for x in range(nx):
            distance = distances[best[x]]
            out[y, x] = distance if inside[y, x] else -distance


@nb.njit(nogil=True, cache=True)
def _nearer(here, there, gap2, dy2, best):  # type: ignore[no-untyped-def]
    for x in range(best.size):
        other = dy2 + (gap2[x] if here[x] == there[x] else np.int32(0))
        best[x] = min(best[x], np.int32(other))


@nb.njit(nogil=True, cache=True)
def _smooth_rows(field, weights, out):  # type: ignore[no-untyped-def]
    ny, nx = field.shape
    radius = weights.size // 2
    padded = np.empty(nx + 2 * radius, np.int32)
    for y in range(ny):
        padded[:radius] = field[y, 0]
        padded[radius : radius + nx] = field[y]
        padded[radius + nx :] = field[y, nx - 1]
        out[y] = 0
        for tap in range(weights.size):
            weight = weights[tap]
            for x in range(nx):
                out[y, x] += weight * padded[x + tap]


@nb.njit(nogil=True, cache=True)
def _smooth_columns(rows, weights, out):  # type: ignore[no-untyped-def]
    ny, nx = rows.shape
    radius = weights.size // 2
    total = np.empty(nx, np.int64)
    for y in range(ny):
        total[:] = 0
        for tap in range(weights.size):
            weight = np.int64(weights[tap])
            row = min(max(y + tap - radius, 0), ny - 1)
            for x in range(nx):
                total[x] += weight * rows[row, x]
        for x in range(nx):
            out[y, x] = np.int32(total[x] >> _SHIFT)
