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

from cadseg.graph import Graph
from cadseg.hashing import mixed
from cadseg.histograms import Nodes, chained, medians, unchained
from cadseg.merging import State, merge
from cadseg.partners import Ropes, merge_partners
from cadseg.rows import Rows, Tree, keep
from cadseg.scores import LARGEST_COUNT, scores
from cadseg.spill import Workspace, parts

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
    ids, u, v = _numbered(graph, space)
    key, by_key = _keys(graph, space)
    head, nodes = chained(graph.width, graph.bin, graph.bin_count, space)
    now = space.empty(u.size, np.uint64)
    if median:
        medians(head, nodes, half, now)
    else:
        for part in parts(u.size):
            now[part] = scores(graph.sum[part], graph.count[part], half)
    rows = Rows(u, v, key, now, space.copy(graph.sum), space.copy(graph.count), head)
    tree = Tree.of(ids.size, space)
    merges, rows, nodes = _merged(
        rows, nodes, tree, _marked(ids, frozen, space), np.uint64(floor), half, median, space
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


def _numbered(graph: Graph, space: Workspace) -> tuple[Ids, Numbers, Numbers]:
    """All clusters, sorted, and both ends of the rows as places among them."""
    by_v = space.order(graph.v)
    u, v = space.empty(graph.u.size, np.uint32), space.empty(graph.u.size, np.uint32)
    ids = space.empty(_number(graph.u, graph.v, by_v, u, v), np.uint64)
    for part in parts(u.size):
        ids[u[part]], ids[v[part]] = graph.u[part], graph.v[part]
    return ids, u, v


@nb.njit(nogil=True, cache=True)
def _number(ids_u, ids_v, by_v, u, v):  # type: ignore[no-untyped-def]
    """Number the distinct ids from 0 on, in ascending order; returns how many they are."""
    at_u = at_v = 0
    size = 0
    while at_v < by_v.size:
        here = ids_v[by_v[at_v]]
        if at_u < ids_u.size:
            here = min(here, ids_u[at_u])
        while at_u < ids_u.size and ids_u[at_u] == here:
            u[at_u] = size
            at_u += 1
        while at_v < by_v.size and ids_v[by_v[at_v]] == here:
            v[by_v[at_v]] = size
            at_v += 1
        size += 1
    return size


def _keys(graph: Graph, space: Workspace) -> tuple[Numbers, Numbers]:
    """The rows' keys as places in the order of keys, and the rows in that order."""
    spread = space.empty(graph.u.size, np.uint64)
    _spread(graph.key_u, graph.key_v, spread)
    by_key = space.order(spread)
    _settle(by_key, spread, graph.key_u, graph.key_v)
    key = space.empty(by_key.size, np.uint32)
    for part in parts(by_key.size):
        key[by_key[part]] = np.arange(part.start, part.stop)
    return key, by_key


@nb.njit(nogil=True, cache=True)
def _spread(key_u, key_v, out):  # type: ignore[no-untyped-def]
    """The upper half of the hash by which keys are ordered first: that of few rows is the same."""
    for row in range(out.size):
        out[row] = _hash(key_u[row], key_v[row]) >> np.uint64(32)


@nb.njit(nogil=True, cache=True)
def _hash(key_u, key_v):  # type: ignore[no-untyped-def]
    return mixed(mixed(key_u) + key_v)


@nb.njit(nogil=True, cache=True)
def _settle(by_key, spread, key_u, key_v):  # type: ignore[no-untyped-def]
    """Put rows that are in the order of `spread` into that of their keys."""
    for i in range(1, by_key.size):
        row = by_key[i]
        at = i
        while at > 0 and spread[by_key[at - 1]] == spread[row]:
            before = by_key[at - 1]
            one, other = _hash(key_u[before], key_v[before]), _hash(key_u[row], key_v[row])
            if (one, key_u[before], key_v[before]) < (other, key_u[row], key_v[row]):
                break
            by_key[at] = before
            at -= 1
        by_key[at] = row


def _marked(ids: Ids, some: Ids, space: Workspace) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of `ids` are in `some`."""
    out = space.full(ids.size, False, np.bool_)
    place = np.searchsorted(ids, some)
    known = place < ids.size
    place, some = place[known], some[known]
    out[place[ids[place] == some]] = True
    return out


def _merged(  # type: ignore[no-untyped-def]
    rows: Rows, nodes: Nodes, tree: Tree, frozen, floor, half: int, median: bool, space: Workspace
) -> tuple[int, Rows, Nodes]:
    """How many merges `tree` has then, and the rows that are left, with their histograms."""
    ropes, way = Ropes.of(rows, frozen.size, space), space.empty(frozen.size, np.uint32)
    merges, hubs = merge_partners(
        rows, nodes, ropes, tree, way, space.copy(frozen), floor, half, median
    )
    del ropes, way
    rows = rows.first(keep(rows, space.copy(frozen), floor))
    if hubs:
        head, nodes = chained(*unchained(rows.head, nodes, space), space)  # each in one place
        rows = rows._replace(head=head)
        order = _order(rows.now, rows.key, space)
        state = State.of(rows.u.size, frozen.size, space)
        merges = merge(
            rows, nodes, order, state, tree, merges, space.copy(frozen), floor, half, median
        )
        rows = rows.first(keep(rows, frozen, floor))
    return merges, rows, nodes


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
