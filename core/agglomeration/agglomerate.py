"""Agglomeration inside one block: best edge first, as far as the block can know.

Hierarchical merging with a reducible score (`cadseg.agglomeration.scoring`) gives the same tree
whichever pairs of clusters that are each other's best are merged first (Lu, Zlateski, Seung, arXiv
2106.10795). So a block merges what it can see is best, and hands the rest up.

A *frozen* cluster may have edges or voxels that the block does not see: it merges with nothing
here, and nor does a cluster whose best edge leads to one that does not (such a cluster is
*stuck*). Edges are taken best first: by score, then by the smaller key. The key of a merged edge
is the largest of its parts' keys; with it, a merged edge is never better than the better of its
parts, not even between ties.

Ties are common, so the order of keys matters: ordered by (u, v), ties are taken from one corner of
the volume to the other, and everything waits for what comes before it across a face. Keys are
therefore ordered by a hash of (u, v): with 4 blocks of 40 x 512 x 512 on SNEMI3D and the median of
maxima, level 0 makes 80 % of the merges with it, and 62 % without.

A free cluster without an edge at or above the floor is final: its edges are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration.best_first import State, merge_best
from cadseg.agglomeration.checks import check
from cadseg.agglomeration.histograms import linked, unlinked
from cadseg.agglomeration.neighbour_chain import Adjacency, merge_chains
from cadseg.agglomeration.numbering import Numbering, keys, numbered
from cadseg.agglomeration.rows import Rows, Tree, keep, score_all
from cadseg.graph.cluster_graph import Graph
from cadseg.kernels import in_place
from cadseg.storage.scratch import Scratch, parts, place_type

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.agglomeration.scoring import Scoring
    from cadseg.arrays import Flags, Ids, Places

PER_ROW, PER_BIN = 220, 75
"""Bytes of memory, at most, for each row that a block agglomerates, and each histogram bin."""


@dataclass(frozen=True)
class Merges:
    """Merges of clusters, best first.

    Attributes:
        fragment: the cluster that ends, named by its smallest fragment, uint64.
        parent: the cluster that it joins, which has the smaller name, uint64.
        sum, count: the score as a fraction, in units of the affinities' dtype, uint64.
        key_u, key_v: the key of the edge between them: two fragments that touch, one on each side,
            uint64.
    """

    fragment: Ids
    parent: Ids
    sum: Ids
    count: Ids
    key_u: Ids
    key_v: Ids


def scratch_for(rows: int, bins: int, budget: float, folder: Path) -> Scratch:
    """Where to agglomerate so many rows: in memory within a budget in bytes, else in files."""
    most = max(2 * rows, bins + 1)  # a row has two clusters
    return Scratch(folder if memory_for(rows, bins) > budget else None, place_type(most))


def memory_for(rows: int, bins: int) -> int:
    """Bytes of memory, at most, to agglomerate so many rows with so many histogram bins."""
    return rows * PER_ROW + bins * PER_BIN


def agglomerate(
    graph: Graph, frozen: Ids, *, scoring: Scoring, floor: int, scratch: Scratch | None = None
) -> tuple[Merges, Graph]:
    """Merge all that can be merged here; returns the merges and the rows that remain.

    Args:
        graph: all rows of the block.
        frozen: clusters that may go on outside.
        scoring: which row is best.
        floor: smallest score that merges, from `Scoring.at_least`.
        scratch: where all arrays are to lie.

    Raises:
        ValueError: the graph is none.
    """
    scratch = scratch or Scratch()
    check(graph, scoring)
    numbering, tree, rows = _merged(graph, frozen, np.uint64(floor), scoring, scratch)
    left = _left(graph, numbering, tree, rows, scratch)
    return _merges(graph, numbering, tree, scratch), left


def _merged(
    graph: Graph, frozen: Ids, floor: np.uint64, scoring: Scoring, scratch: Scratch
) -> tuple[Numbering, Tree, Rows]:
    """Merge; returns what numbers stand for, all merges, and the rows that remain.

    Nothing else refers to rows and what is made of them: what has done its part goes.
    """
    numbering, rows = _columns(graph, scoring, scratch)
    clusters = numbering.ids.size
    tree, blocked = Tree.of(clusters, scratch), _marked(numbering.ids, frozen, scratch)
    merges, hubs = merge_chains(
        rows,
        Adjacency.of(rows, clusters, scratch),
        tree,
        scratch.places(clusters),
        scratch.copy(blocked),
        floor,
        scoring,
    )
    rows = rows.first(keep(rows, scratch.copy(blocked), floor), scratch)
    if hubs:
        state = State.of(rows, clusters, _order(rows.score, rows.key, scratch), scratch)
        merges = merge_best(rows, state, tree, merges, scratch.copy(blocked), floor, scoring)
        rows = rows.first(keep(rows, blocked, floor), scratch)
    return numbering, tree.first(merges), rows


def _columns(graph: Graph, scoring: Scoring, scratch: Scratch) -> tuple[Numbering, Rows]:
    """The rows in numbers, scored."""
    ids, u, v = numbered(graph, scratch)
    key, by_key = keys(graph, scratch)
    histogram, nodes = linked(graph.width, graph.bin, graph.bin_count, scratch)
    total, count = scratch.copy(graph.sum), scratch.copy(graph.count)
    score = scratch.empty(u.size, np.uint64)
    rows = Rows(u, v, key, score, total, count, histogram, nodes)
    score_all(rows, scoring)
    return Numbering(ids, by_key), rows


def _marked(ids: Ids, some: Ids, scratch: Scratch) -> Flags:
    """Which of `ids` are in `some`."""
    out: Flags = scratch.full(ids.size, False, np.bool_)
    for part in parts(some.size):
        here = some[part]
        place = np.searchsorted(ids, here)
        known = place < ids.size
        place, here = place[known], here[known]
        out[place[ids[place] == here]] = True
    return out


def _order(score: Ids, key: Places, scratch: Scratch) -> Places:
    """Places of rows or merges, best first: by score, then by key."""
    falling = scratch.empty(score.size, np.uint64)
    for part in parts(score.size):
        falling[part] = ~score[part]
    return scratch.order(falling, key)


def _left(graph: Graph, numbering: Numbering, tree: Tree, rows: Rows, scratch: Scratch) -> Graph:
    """The rows that remain, with names instead of numbers, sorted."""
    names = scratch.taken(numbering.ids, tree.name)
    u, v = (scratch.empty(rows.u.size, np.uint64) for _ in range(2))
    _name(rows, names, u, v)
    order = scratch.order(u, v)
    source = scratch.taken(numbering.by_key, scratch.taken(rows.key, order))
    width, bins, bin_count = unlinked(scratch.taken(rows.histogram, order), rows.nodes, scratch)
    return Graph(
        u=scratch.taken(u, order),
        v=scratch.taken(v, order),
        key_u=scratch.taken(graph.key_u, source),
        key_v=scratch.taken(graph.key_v, source),
        sum=scratch.taken(rows.sum, order),
        count=scratch.taken(rows.area, order),
        width=width,
        bin=bins,
        bin_count=bin_count,
    )


def _merges(graph: Graph, numbering: Numbering, tree: Tree, scratch: Scratch) -> Merges:
    """All merges, with names instead of numbers, best first."""
    order = _order(tree.score, tree.key, scratch)
    source = scratch.taken(numbering.by_key, scratch.taken(tree.key, order))
    return Merges(
        fragment=scratch.taken(numbering.ids, scratch.taken(tree.child, order)),
        parent=scratch.taken(numbering.ids, scratch.taken(tree.parent, order)),
        sum=scratch.taken(tree.numerator, order),
        count=scratch.taken(tree.denominator, order),
        key_u=scratch.taken(graph.key_u, source),
        key_v=scratch.taken(graph.key_v, source),
    )


@in_place
def _name(rows: Rows, names: Ids, low: Ids, high: Ids) -> None:
    """The rows' ends as clusters are called now, the smaller one first."""
    for row in range(low.size):
        u, v = names[rows.u[row]], names[rows.v[row]]
        low[row], high[row] = min(u, v), max(u, v)
