"""What a graph must be before it is agglomerated: kernels index arrays by it, and look no further.

Files are checked against their records when they are read, so what is found here was wrong before
it was written. A run ends with it rather than with a wrong tree, or a write beyond an array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration.scores import most_pairs
from cadseg.kernels import in_place

if TYPE_CHECKING:
    from cadseg.agglomeration.scoring import Scoring
    from cadseg.arrays import Ids, Int, Numbers
    from cadseg.graph.cluster_graph import Graph

_SOUND, _ENDS, _ORDER, _PAIRS, _SUM, _NO_BINS, _BIN, _BIN_COUNT, _WIDTHS = range(9)

_FAULTS = {
    _ENDS: "its smaller end is not the first",
    _ORDER: "it does not follow the row before it",
    _PAIRS: "it has no voxel pairs, or more than fit into 64 bits of a sum",
    _SUM: "its affinities are more than its voxel pairs can have",
    _NO_BINS: "it has no histogram",
    _BIN: "a bin of its histogram is no affinity",
    _BIN_COUNT: "a bin of its histogram has no edges, or more than there are voxel pairs",
    _WIDTHS: "histograms end before or after their bins",
}


def check(graph: Graph, scoring: Scoring) -> None:
    """Look at every number by which kernels index, or which they add up.

    Raises:
        ValueError: rows are not what a `Graph` says, or hold what cannot be.
    """
    columns = (graph.u, graph.v, graph.sum, graph.count, graph.width)
    sizes = {column.size for column in (*columns, graph.key_u, graph.key_v)}
    if len(sizes) > 1 or graph.bin.size != graph.bin_count.size:
        raise ValueError(f"graph: columns of {sorted(sizes)} rows")
    one, most = (1 << (64 - 2 * scoring.half)) - 1, most_pairs(scoring.half)
    row, fault = _fault(*columns, np.uint64(one), np.uint64(most), graph.bin.size)
    if fault == _SOUND and scoring.method.HISTOGRAMS:
        row, fault = _fault_of_bins(graph.width, graph.bin, graph.bin_count, one, np.uint64(most))
    if fault != _SOUND:
        raise ValueError(f"graph: row {row} of {graph.u.size}: {_FAULTS[fault]}")


@in_place
def _fault(
    u: Ids, v: Ids, total: Ids, count: Ids, width: Numbers, one: Int, most: Int, bins: int
) -> tuple[int, int]:
    """The first row with a fault, and which."""
    pairs = np.uint64(0)
    widths = 0
    for row in range(u.size):
        if u[row] >= v[row]:
            return row, _ENDS
        if row > 0 and (u[row - 1] > u[row] or (u[row - 1] == u[row] and v[row - 1] >= v[row])):
            return row, _ORDER
        if count[row] == 0 or count[row] > most - pairs:
            return row, _PAIRS
        pairs += count[row]
        if total[row] > one * count[row]:
            return row, _SUM
        widths += width[row]
        if widths > bins:
            return row, _WIDTHS
    return u.size, _SOUND if widths == bins else _WIDTHS


@in_place
def _fault_of_bins(
    width: Numbers, bins: Numbers, edges: Ids, one: Int, most: Int
) -> tuple[int, int]:
    """The first row with a histogram that has a fault, and which."""
    whole = np.uint64(0)
    at = 0
    for row in range(width.size):
        if width[row] == 0:
            return row, _NO_BINS
        for _ in range(width[row]):
            if bins[at] > one:
                return row, _BIN
            if edges[at] == 0 or edges[at] > most - whole:
                return row, _BIN_COUNT
            whole += edges[at]
            at += 1
    return width.size, _SOUND
