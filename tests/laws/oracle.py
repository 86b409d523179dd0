"""The method once more, as literally as it is written down: slow, without blocks, without tricks.

Everything works on the domain as one array. `begin` is its place in the full volume of `shape`,
which gives the ids.
"""

from __future__ import annotations

import heapq
import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Voxel = tuple[int, int, int]
Edge = tuple[int, int]
Contact = tuple[int, int, int]  # sum, count and max of the affinities between two fragments
Merge = tuple[int, int, int, int, int, int]  # fragment, parent, contact u and v, score: sum, count

STEPS = 16  # per voxel of distance
WEIGHTS = 4096  # sum of the Gaussian's
WEIGHT_BITS = 12
SHIFT = 5
TOP = 255


# heights -----------------------------------------------------------------------------------------


def heights(affinities: Array, clip: int, sigma: float, boundary_weight: float) -> Array:
    """Heights [z, y, x] of the affinities of a whole domain, y and x [2, z, y, x] or all three."""
    if len(affinities) == 3:
        return _heights(affinities, clip, sigma, boundary_weight)
    sections = affinities.swapaxes(0, 1)
    return np.stack([_heights(s, clip, sigma, boundary_weight) for s in sections])


def belief(affinities: Array) -> Array:
    """Sum of the affinities along an array's axes, [axes, ...] to [...].

    The first row's y affinity is the second's, the first column's x affinity the second's, and so
    on; where there is no second, certainty.
    """
    out = np.zeros(affinities.shape[1:], np.int64)
    for axis, along in enumerate(affinities):
        for place in np.ndindex(along.shape):
            source = list(place)
            source[axis] = max(source[axis], 1)
            out[place] += along[tuple(source)] if along.shape[axis] > 1 else TOP
    return out


def _heights(affinities: Array, clip: int, sigma: float, boundary_weight: float) -> Array:
    both, top = belief(affinities), len(affinities) * TOP
    inside = both * 2 > top
    field = np.empty(both.shape, np.int64)
    for place in np.ndindex(both.shape):
        others = np.argwhere(inside != inside[place])
        squares = ((others - place) ** 2).sum(1)
        square = min([clip * clip, *squares.tolist()])
        distance = round(math.sqrt(square) * STEPS)
        field[place] = distance if inside[place] else -distance
        lack = Fraction(top - int(both[place]), top)
        field[place] -= math.floor(round(boundary_weight * STEPS) * lack)
    return _smoothed(field, sigma)


def gaussian(sigma: float) -> Array:
    """Integer weights of a Gaussian, cut off at four sigma."""
    radius = math.ceil(4 * sigma)
    real = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    weights = np.array([round(w / sum(real) * WEIGHTS) for w in real])
    weights[radius] += WEIGHTS - weights.sum()
    return weights


def _smoothed(field: Array, sigma: float) -> Array:
    """Smoothed along x, then y, then z, in integers; only the last step keeps all its bits."""
    weights = gaussian(sigma)
    radius = len(weights) // 2
    for axis in reversed(range(field.ndim)):
        edges = [(radius, radius) if other == axis else (0, 0) for other in range(field.ndim)]
        padded = np.pad(field, edges, mode="edge")
        field = sum(
            w * np.take(padded, range(i, i + field.shape[axis]), axis)
            for i, w in enumerate(weights.tolist())
        )
        if axis == field.ndim - 1:
            field >>= SHIFT
        elif axis > 0:
            field >>= WEIGHT_BITS
    return field


# fragments ---------------------------------------------------------------------------------------


def fragments(
    field: Array, begin: Voxel, shape: Voxel, mask: Array | None = None, dimensions: int = 2
) -> Array:
    """Every voxel's top, as the top's linear index in the full volume plus one; 0 off the mask."""
    mask = np.ones(field.shape, bool) if mask is None else mask != 0
    out = np.zeros(field.shape, np.uint64)
    for z, y, x in np.argwhere(mask).tolist():
        here, up = None, (z, y, x)
        while here != up:
            here, up = up, _best(field, mask, up, begin, shape, dimensions)
        out[z, y, x] = number(here, begin, shape)
    return out


def number(voxel: tuple[int, ...], begin: Voxel, shape: Voxel) -> int:
    """Linear index in the full volume, plus one."""
    z, y, x = (v + b for v, b in zip(voxel, begin, strict=True))
    return (z * shape[1] + y) * shape[2] + x + 1


def _best(
    field: Array, mask: Array, voxel: Voxel, begin: Voxel, shape: Voxel, dimensions: int
) -> Voxel:
    """The best of a voxel and its neighbours along the last axes, by height, then index."""
    steps = itertools.product(
        *((-1, 0, 1) if axis >= 3 - dimensions else (0,) for axis in range(3))
    )
    near = [tuple(v + s for v, s in zip(voxel, step, strict=True)) for step in steps]
    inside = [v for v in near if all(0 <= i < n for i, n in zip(v, field.shape, strict=True))]
    z, y, x = max((v for v in inside if mask[v]), key=lambda v: (field[v], number(v, begin, shape)))
    return z, y, x


# edges -------------------------------------------------------------------------------------------


def edges(affinities: Array, ids: Array) -> dict[Edge, Contact]:
    """All contacts of two fragments, from all pairs of voxels."""
    found: dict[Edge, Contact] = {}
    for z, y, x in np.ndindex(ids.shape):
        for axis, lower in enumerate([(z - 1, y, x), (z, y - 1, x), (z, y, x - 1)]):
            if min(lower) < 0:
                continue
            one, other = int(ids[lower]), int(ids[z, y, x])
            if one == other or 0 in (one, other):
                continue
            affinity = int(affinities[axis, z, y, x])
            pair = (min(one, other), max(one, other))
            total, count, largest = found.get(pair, (0, 0, 0))
            found[pair] = (total + affinity, count + 1, max(largest, affinity))
    return found


# agglomeration -----------------------------------------------------------------------------------


class Between:
    """What is known between two clusters: all their original edges."""

    def __init__(self, pair: Edge, contact: Contact) -> None:
        """One original edge."""
        self.key = pair
        self.sum, self.count, largest = contact
        self.maxima = [largest]

    def absorb(self, other: Between) -> None:
        """Both as one, whose key is the larger."""
        self.key = max(self.key, other.key, key=place)
        self.sum += other.sum
        self.count += other.count
        self.maxima = sorted(self.maxima + other.maxima)

    def score(self, scoring: str) -> tuple[int, int]:
        """Sum and count of the mean, or the median and 1."""
        if scoring == "mean":
            return self.sum, self.count
        return self.maxima[len(self.maxima) // 2], 1


def greedy(graph: dict[Edge, Contact], scoring: str, floor: Fraction) -> list[Merge]:
    """Merge the best edge of the whole graph until it is below `floor`, in the affinities' units.

    The best has the highest score, among equals the smallest key. A cluster is named by its
    smallest fragment.
    """
    between = {pair: Between(pair, contact) for pair, contact in graph.items()}
    queue = [(_rank(edge, scoring), pair) for pair, edge in between.items()]
    heapq.heapify(queue)
    near: dict[int, set[int]] = {}
    for u, v in between:
        near.setdefault(u, set()).add(v)
        near.setdefault(v, set()).add(u)
    merges = []
    while queue:
        rank, best = heapq.heappop(queue)
        if best not in between or rank != _rank(between[best], scoring):
            continue  # has changed since
        if -rank[0] < floor:
            break
        parent, fragment = best
        merges.append((fragment, parent, *between[best].key, *between[best].score(scoring)))
        near[fragment].discard(parent)
        near[parent].discard(fragment)
        del between[best]
        for other in near.pop(fragment):
            near[other].discard(fragment)
            moved = between.pop(_pair(fragment, other))
            pair = _pair(parent, other)
            if pair in between:
                between[pair].absorb(moved)
            else:
                between[pair] = moved
                near[parent].add(other)
                near[other].add(parent)
            heapq.heappush(queue, (_rank(between[pair], scoring), pair))
    return merges


def _pair(a: int, b: int) -> Edge:
    return min(a, b), max(a, b)


def _rank(edge: Between, scoring: str) -> tuple[Fraction, tuple[int, Edge]]:
    return -Fraction(*edge.score(scoring)), place(edge.key)


def place(key: Edge) -> tuple[int, Edge]:
    """By what keys are ordered: a hash of both ends, so that ties are taken all over the volume."""
    return mixed((mixed(key[0]) + key[1]) % 2**64), key


def mixed(value: int) -> int:
    """Finalizer of SplitMix64."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def segments(ids: Array, merges: list[Merge]) -> Array:
    """Fragments as segments: the merges done one after the other."""
    parent = {fragment: parent for fragment, parent, *_ in merges}

    def root(fragment: int) -> int:
        while fragment in parent:
            fragment = parent[fragment]
        return fragment

    return np.array([root(f) for f in ids.ravel().tolist()], np.uint64).reshape(ids.shape)


def cut(ids: Array, merges: list[Merge], threshold: Fraction, min_voxels: int) -> Array:
    """Fragments as segments: what is connected by the contacts of the merges that hold.

    A merge holds at `threshold`, in the affinities' units, and where a side is small.
    """
    names, counts = np.unique(ids, return_counts=True)
    size = dict(zip(names.tolist(), counts.tolist(), strict=True))
    name = {fragment: fragment for fragment in size}
    for fragment, parent, u, v, *score in merges:
        holds = Fraction(*score) >= threshold or min(size[fragment], size[parent]) < min_voxels
        size[parent] += size[fragment]
        if holds:
            low, high = sorted((name[u], name[v]))
            name = {f: low if now == high else now for f, now in name.items()}
    return np.array([name[f] for f in ids.ravel().tolist()], np.uint64).reshape(ids.shape)
