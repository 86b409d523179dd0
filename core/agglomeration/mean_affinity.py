"""The scoring `mean`: all voxel pairs between two clusters count alike; sums and counts add."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.agglomeration.scores import score
from cadseg.graph import cluster_graph
from cadseg.kernels import inlined

if TYPE_CHECKING:
    from cadseg.agglomeration.rows import Rows
    from cadseg.arrays import Array, Ids, Int
    from cadseg.graph.cluster_graph import Graph
    from cadseg.graph.edges import Edges

WATERZ = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
HISTOGRAMS = False

UNIT = 255  # affinity 1
STEPS = 1 << 12
"""Parts of a grey level to which waterz's means are rounded: 1e-6, above its floats' noise."""


def from_edges(edges: Edges) -> Graph:
    """Rows of original edges: sums and counts are all that it takes."""
    return cluster_graph.from_edges(edges)


@inlined
def score_of(rows: Rows, row: Int, half: int) -> Any:
    """Score of a row: the mean."""
    return score(rows.sum[row], rows.area[row], half)


@inlined
def join(rows: Rows, row: Int, other: Int) -> None:
    """Add `other` to `row` where sums and counts, which every scoring has, are not enough."""


@inlined
def fraction(rows: Rows, row: Int, half: int) -> tuple[Int, Int]:
    """The score as the fraction that a merge stores."""
    return rows.sum[row], rows.area[row]


def waterz_threshold(lowest: float) -> float:
    """Where waterz is to stop, so that it merges down to the mean `lowest`, a grey level."""
    return 1 - (lowest - 1 / STEPS) / UNIT


def from_waterz(affinities: Array) -> tuple[Ids, Ids]:
    """Fractions, in grey levels, for waterz's means in 0..1."""
    grey = np.rint(affinities * (UNIT * STEPS))
    return grey.astype(np.uint64), np.full(grey.size, STEPS, np.uint64)
