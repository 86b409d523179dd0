"""The scoring `median`: the median of the largest affinities of all original edges (CAD paper).

Every original edge counts once, in the bin of its largest affinity, however large the contact is. A
row keeps the sparse histogram of these maxima; joined rows add theirs. Of an even number the upper
of the two middle ones counts, as in waterz.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.agglomeration import histograms
from cadseg.agglomeration.scores import score
from cadseg.graph import cluster_graph
from cadseg.kernels import inlined

if TYPE_CHECKING:
    from cadseg.agglomeration.rows import Rows
    from cadseg.arrays import Array, Ids, Int
    from cadseg.graph.cluster_graph import Graph
    from cadseg.graph.edges import Edges

WATERZ = "OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256, true>>"
HISTOGRAMS = True

BINS = 256  # of waterz's histogram; a byte is its own bin


def from_edges(edges: Edges) -> Graph:
    """Rows of original edges, each with a histogram of one maximum."""
    return cluster_graph.from_edges(edges, edges.max)


@inlined
def score_of(rows: Rows, row: Int, half: int) -> Any:
    """Score of a row: the bin of the median."""
    median = histograms.median(rows.histogram[row], rows.nodes)
    return score(np.uint64(median), np.uint64(1), half)


@inlined
def join(rows: Rows, row: Int, other: Int) -> None:
    """Add the histogram of `other` to that of `row`."""
    rows.histogram[row] = histograms.join(rows.histogram[row], rows.histogram[other], rows.nodes)


@inlined
def fraction(rows: Rows, row: Int, half: int) -> tuple[Int, Int]:
    """The score as the fraction that a merge stores: the bin, and 1."""
    return rows.score[row] >> np.uint64(2 * half), np.uint64(1)


def waterz_threshold(lowest: float) -> float:
    """Where waterz is to stop, so that it merges down to the median `lowest`, a grey level."""
    return float(1 - np.ceil(lowest) / BINS)


def from_waterz(affinities: Array) -> tuple[Ids, Ids]:
    """Fractions, in grey levels, for waterz's medians in 0..1."""
    grey = np.floor(affinities * BINS)
    return grey.astype(np.uint64), np.ones(grey.size, np.uint64)
