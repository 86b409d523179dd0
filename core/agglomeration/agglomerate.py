"""Agglomeration inside one block: best edge first, as far as the block can know.

Hierarchical merging with a reducible score (the mean, any quantile) gives the same tree whichever
pairs of clusters that are each other's best are merged first (Lu, Zlateski, Seung, arXiv
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
from typing import Any

import numba as nb
import numpy as np

from cadseg.agglomeration.best_first import State, merge
from cadseg.agglomeration.histograms import Nodes, chained, medians, unchained
from cadseg.agglomeration.neighbour_chain import Ropes, merge_partners
from cadseg.agglomeration.numbering import keys, numbered
from cadseg.agglomeration.rows import Rows, Tree, keep
from cadseg.agglomeration.scores import LARGEST_COUNT, scores
from cadseg.graph.cluster_graph import Graph
from cadseg.storage.scratch import Workspace, parts

Ids = np.ndarray[Any, np.dtype[np.uint64]]
Numbers = np.ndarray[Any, np.dtype[np.uint32]]


@dataclass(frozen=True)
class Merges:
    """Merges of clusters, best first.

    Attributes:
        fragment: the cluster that ends, named by its smallest fragment, uint64.
        parent: the cluster that it joins, which has the smaller name, uint64.
        sum, count: the score as a fraction, in units of the affinities' dtype, uint64. For the
            median of maxima the bin and 1.
        key_u, key_v: the key of the edge between them: two fragments that touch, one on each side,
            uint64.
    """

    fragment: Ids
    parent: Ids
    sum: Ids
    count: Ids
    key_u: Ids
    key_v: Ids


def agglomerate(
    graph: Graph,
    frozen: Ids,
    *,
    floor: int,
    half: int,
    median: bool,
    space: Workspace | None = None,
) -> tuple[Merges, Graph]:
    """Merge all that can be merged here; returns the merges and the rows that remain.

    Args:
        graph: all rows of the block.
        frozen: clusters that may go on outside.
        floor: smallest score that merges, from `scores.at_least`.
        half: from `scores.half_bits`.
        median: score by the median of maxima; else by the mean.
        space: where all arrays are to lie.
    """
    space = space or Workspace()
    assert not graph.count.size or int(graph.count.sum(dtype=np.float64)) < LARGEST_COUNT
    ids, by_key, tree, merges, rows, nodes = _merged(
        graph, frozen, np.uint64(floor), half, median, space
    )
    names = space.taken(ids, tree.name)
    low, high = space.empty(rows.u.size, np.uint64), space.empty(rows.u.size, np.uint64)
    _named(rows, names, low, high)
    order = space.order(low, high)
    source = space.taken(by_key, space.taken(rows.key, order))
    width, bins, bin_count = unchained(space.taken(rows.head, order), nodes, space)
    left = Graph(
        u=space.taken(low, order),
        v=space.taken(high, order),
        key_u=space.taken(graph.key_u, source),
        key_v=space.taken(graph.key_v, source),
        sum=space.taken(rows.sum, order),
        count=space.taken(rows.count, order),
        width=width,
        bin=bins,
        bin_count=bin_count,
    )
    return _best_first(graph, by_key, ids, tree, merges, half, median, space), left


def _merged(
    graph: Graph, frozen: Ids, floor: np.uint64, half: int, median: bool, space: Workspace
) -> tuple[Ids, Numbers, Tree, int, Rows, Nodes]:
    """All clusters; rows by key; the tree with how many merges; what rows are left.

    Nothing else refers to the rows and their histograms: what has done its part goes.
    """
    ids, by_key, rows, nodes = _columns(graph, half, median, space)
    tree, block = Tree.of(ids.size, space), _marked(ids, frozen, space)
    ropes, way = Ropes.of(rows, ids.size, space), space.empty(ids.size, np.uint32)
    merges, hubs = merge_partners(
        rows, nodes, ropes, tree, way, space.copy(block), floor, half, median
    )
    del ropes, way
    rows = rows.first(keep(rows, space.copy(block), floor), space)
    head, nodes = chained(*unchained(rows.head, nodes, space), space)  # each in one place
    rows = rows._replace(head=head)
    if hubs:
        state, order = State.of(rows.u.size, ids.size, space), _order(rows.now, rows.key, space)
        merges = merge(
            rows, nodes, order, state, tree, merges, space.copy(block), floor, half, median
        )
        rows = rows.first(keep(rows, block, floor), space)
    return ids, by_key, tree, merges, rows, nodes


def _columns(
    graph: Graph, half: int, median: bool, space: Workspace
) -> tuple[Ids, Numbers, Rows, Nodes]:
    """All clusters, sorted; the rows by key; the rows in numbers, and their histograms."""
    ids, u, v = numbered(graph, space)
    key, by_key = keys(graph, space)
    head, nodes = chained(graph.width, graph.bin, graph.bin_count, space)
    now = space.empty(u.size, np.uint64)
    if median:
        medians(head, nodes, half, now)
    else:
        for part in parts(u.size):
            now[part] = scores(graph.sum[part], graph.count[part], half)
    rows = Rows(u, v, key, now, space.copy(graph.sum), space.copy(graph.count), head)
    return ids, by_key, rows, nodes


def _marked(ids: Ids, some: Ids, space: Workspace) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of `ids` are in `some`."""
    out = space.full(ids.size, False, np.bool_)
    place = np.searchsorted(ids, some)
    known = place < ids.size
    place, some = place[known], some[known]
    out[place[ids[place] == some]] = True
    return out


def _order(now: Ids, key: Numbers, space: Workspace) -> Numbers:
    """Places of rows or merges, best first: by score, then by key."""
    falling = space.empty(now.size, np.uint64)
    for part in parts(now.size):
        falling[part] = ~now[part]
    return space.order(falling, key)


def _best_first(  # type: ignore[no-untyped-def]
    graph: Graph, by_key, ids: Ids, tree: Tree, merges: int, half: int, median: bool,
    space: Workspace,
) -> Merges:  # fmt: skip
    """The first `merges` of the tree, with names instead of numbers."""
    child, parent, key, now, total, count = (column[:merges] for column in tree[1:])
    order = _order(now, key, space)
    if median:
        total, count = now >> np.uint64(2 * half), space.full(merges, 1, np.uint64)
    source = space.taken(by_key, space.taken(key, order))
    return Merges(
        fragment=space.taken(ids, space.taken(child, order)),
        parent=space.taken(ids, space.taken(parent, order)),
        sum=space.taken(total, order),
        count=space.taken(count, order),
        key_u=space.taken(graph.key_u, source),
        key_v=space.taken(graph.key_v, source),
    )


@nb.njit(nogil=True, cache=True)
def _named(rows, names, low, high):  # type: ignore[no-untyped-def]
    """The rows' ends as clusters are called now, the smaller one first."""
    for row in range(low.size):
        u, v = names[rows.u[row]], names[rows.v[row]]
        low[row], high[row] = min(u, v), max(u, v)
