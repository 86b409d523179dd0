"""Scores of a segmentation: variation of information (VOI) and adapted Rand error (ARAND).

Voxels whose ground truth is 0 or less are left out; segment 0 is an ordinary segment. With s the
segment and g the true neuron of a voxel:

* voi_split = H(s | g), the conditional entropy in bits: how far a neuron is spread over segments,
* voi_merge = H(g | s): how far a segment is spread over neurons,
* arand = 1 - 2 S_sg / (S_s + S_g), where S is the number of pairs of voxels with equal (s, g), with
  equal s, and with equal g.

All of these follow from the contingency table, the number of voxels of each pair (s, g). Its
entries are integers and add up over blocks, so scores do not depend on how a volume is cut.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Grid, Roi, Zyx, zyx
from cadseg.errors import OutputError, VolumeError
from cadseg.storage import group
from cadseg.storage.addresses import open_array
from cadseg.storage.files import open_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cadseg.arrays import Array
    from cadseg.renaming import Renaming
    from cadseg.storage.addresses import Voxels

BLOCK: Zyx = (32, 512, 512)  # compared at once; takes some 500 MB with intermediate arrays


@dataclass(frozen=True)
class Counts:
    """A sparse contingency table: voxels per pair of segment and true neuron, sorted by pair."""

    segment: Array
    truth: Array
    voxels: Array


@dataclass(frozen=True)
class Scores:
    """Scores of a segmentation; lower is better.

    Attributes:
        voi_split: H(segment | neuron), bits.
        voi_merge: H(neuron | segment), bits.
        arand: adapted Rand error, 0..1.
        voxels: how many were compared.
    """

    voi_split: float
    voi_merge: float
    arand: float
    voxels: int

    @property
    def voi_sum(self) -> float:
        """Variation of information, bits."""
        return self.voi_split + self.voi_merge


def evaluate(segmentation: str, truth: str, roi: Roi | None = None) -> Scores:
    """Scores of a segmentation against the truth, block by block, in bounded memory.

    Args:
        segmentation: array of ids, or folder of a run.
        truth: array of ids, or ``file.h5:dataset``; 0 and below is left out.
        roi: the part to compare; None is all of it.

    Raises:
        VolumeError: an array cannot be opened, their shapes differ, `roi` leaves them, or all
            of the truth is 0 or less.
    """
    if _is_run(segmentation):
        segmentation = f"{segmentation}/{group.SEGMENTATION}"
    return scores(compared(segmentation, truth, roi))


def _is_run(address: str) -> bool:
    try:
        return group.is_ours(open_files(address))
    except (OSError, OutputError):  # no place that a run could be written to
        return False


def compared(segmentation: str, truth: str, roi: Roi | None = None) -> Counts:
    """The contingency table of two arrays; arguments and errors as for `evaluate`."""
    with _labels(segmentation) as ours, _labels(truth) as theirs:
        if ours.shape != theirs.shape:
            raise VolumeError(
                f"segmentation {segmentation}: has the shape {ours.shape}, but {truth} has "
                f"{theirs.shape}; accepted are equal shapes"
            )
        whole = Roi((0, 0, 0), zyx(ours.shape))
        domain = roi or whole
        if not whole.contains(domain):
            raise VolumeError(f"roi {domain}: leaves the volume; accepted are boxes within {whole}")
        grid = Grid(zyx(ours.shape), domain, BLOCK)
        boxes = (grid.block(0, cell).write for cell in grid.cells(0))
        counts = total(contingency(ours.read(b), np.maximum(theirs.read(b), 0)) for b in boxes)
    if not counts.truth.any():
        raise VolumeError(f"ground truth {truth}: is 0 in all of {domain}, so nothing is compared")
    return counts


def renamed(counts: Counts, segments: Renaming) -> Counts:
    """The table under the new names of segments."""
    return _joined(segments.of(counts.segment), counts.truth, counts.voxels)


def contingency(segmentation: Array, truth: Array) -> Counts:
    """The contingency table of two arrays of ids of the same shape."""
    assert segmentation.shape == truth.shape, f"{segmentation.shape} against {truth.shape}"
    s, g = segmentation.ravel().astype(np.uint64), truth.ravel().astype(np.uint64)
    # Runs of equal pairs along x: some 20 times fewer to sort than voxels.
    change = np.flatnonzero((s[1:] != s[:-1]) | (g[1:] != g[:-1])) + 1
    begin = np.concatenate([np.zeros(min(1, s.size), np.int64), change])
    length = np.diff(begin, append=s.size)
    return _joined(s[begin], g[begin], length)


def total(parts: Iterable[Counts]) -> Counts:
    """The sum of the tables of parts of a volume."""
    empty = np.empty(0, np.uint64)
    whole = Counts(empty, empty, np.empty(0, np.int64))
    waiting: list[Counts] = []
    for part in parts:
        waiting.append(part)
        if sum(p.voxels.size for p in waiting) > whole.voxels.size:
            whole, waiting = _added([whole, *waiting]), []
    return _added([whole, *waiting])


def scores(counts: Counts) -> Scores:
    """Scores of a contingency table; they do not change when ids are permuted."""
    known = counts.truth != 0
    pairs = counts.voxels[known]
    n = int(pairs.sum())
    segments, segment = _sizes(counts.segment[known], pairs)
    neurons, neuron = _sizes(counts.truth[known], pairs)
    both, ours, theirs = (_squares(sizes) - n for sizes in (pairs, segments, neurons))
    return Scores(
        voi_split=math.fsum(pairs * np.log2(neurons[neuron] / pairs)) / n,
        voi_merge=math.fsum(pairs * np.log2(segments[segment] / pairs)) / n,
        arand=1 - 2 * both / (ours + theirs) if ours + theirs else 0.0,
        voxels=n,
    )


def _joined(segment: Array, truth: Array, voxels: Array) -> Counts:
    """The table with rows sorted by pair, those of equal pairs summed."""
    order = np.lexsort((truth, segment))
    segment, truth, voxels = segment[order], truth[order], voxels[order]
    if not voxels.size:
        return Counts(segment, truth, voxels)
    first = np.ones(voxels.size, np.bool_)
    first[1:] = (segment[1:] != segment[:-1]) | (truth[1:] != truth[:-1])
    begin = np.flatnonzero(first)
    return Counts(segment[begin], truth[begin], np.add.reduceat(voxels, begin))


def _added(parts: list[Counts]) -> Counts:
    return _joined(
        np.concatenate([p.segment for p in parts]),
        np.concatenate([p.truth for p in parts]),
        np.concatenate([p.voxels for p in parts]),
    )


def _sizes(ids: Array, voxels: Array) -> tuple[Array, Array]:
    """Voxels per distinct id, and for each row the index of its id among these."""
    unique, place = np.unique(ids, return_inverse=True)
    sizes = np.zeros(unique.size, np.int64)
    np.add.at(sizes, place, voxels)
    return sizes, place


def _squares(sizes: Array) -> int:
    """Sum of squares in Python integers: for a teravoxel it exceeds 64 bits."""
    return sum(n * n for n in sizes.tolist())


@contextlib.contextmanager
def _labels(name: str) -> Iterator[Voxels]:
    """The array of ids at an address."""
    with open_array(name, "labels") as ids:
        if ids.dtype.kind not in "ui":
            raise VolumeError(
                f"labels {name}: has the shape {ids.shape} and the type {ids.dtype}; "
                "accepted are integers over z, y, x"
            )
        yield ids
