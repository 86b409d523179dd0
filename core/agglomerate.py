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
from cadseg.histograms import Chains, medians, unchained, widths
from cadseg.merging import State, merge
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
    ids = _ids(graph, space)
    u, v = _numbers(graph.u, ids, space), _numbers(graph.v, ids, space)
    total, count = space.copy(graph.sum), space.copy(graph.count)
    chain = Chains.of(graph, space)
    now = space.empty(u.size, np.uint64)
    if median:
        medians(chain.head, chain.next, chain.bin, chain.count, half, now)
    else:
        for part in parts(u.size):
            now[part] = scores(total[part], count[part], half)
    spread = space.empty(u.size, np.uint64)
    _spread(graph.key_u, graph.key_v, spread)
    by_key = space.order(spread, graph.key_u, graph.key_v)
    key = space.empty(u.size, np.uint32)
    _ranks(by_key, key)
    blocked = _marked(ids, frozen, space)
    merges, alive, name = _merged(
        graph, by_key, ids, u, v, key, total, count, now, _order(now, by_key, space), blocked,
        floor, half, median, chain, space,
    )  # fmt: skip
    kept = space.empty(u.size, np.uint32)
    kept = kept[: _kept(u, v, now, alive, blocked, np.uint64(floor), kept)]
    low, high = space.empty(kept.size, np.uint64), space.empty(kept.size, np.uint64)
    _named(kept, u, v, name, ids, low, high)
    order = space.order(low, high)
    kept = space.taken(kept, order)
    source = space.taken(by_key, space.taken(key, kept))
    width = space.empty(kept.size, np.uint32)
    size = widths(kept, graph.bin.size > 0, chain.head, chain.next, width)
    bins, bin_count = space.empty(size, np.uint32), space.empty(size, np.uint64)
    unchained(kept, chain.head, chain.next, chain.bin, chain.count, bins, bin_count)
    return merges, Graph(
        u=space.taken(low, order),
        v=space.taken(high, order),
        key_u=space.taken(graph.key_u, source),
        key_v=space.taken(graph.key_v, source),
        sum=space.taken(total, kept),
        count=space.taken(count, kept),
        width=width,
        bin=bins,
        bin_count=bin_count,
    )


@nb.njit(nogil=True, cache=True)
def _spread(key_u, key_v, out):  # type: ignore[no-untyped-def]
    """The hash by which keys are ordered first."""
    for row in range(out.size):
        out[row] = mixed(mixed(key_u[row]) + key_v[row])


def _ids(graph: Graph, space: Workspace) -> Ids:
    """All clusters, sorted."""
    both = space.empty(2 * graph.u.size, np.uint64)
    both[: graph.u.size], both[graph.u.size :] = graph.u, graph.v
    both.sort()
    return space.copy(both[: _distinct(both)])


def _numbers(clusters: Ids, ids: Ids, space: Workspace) -> Numbers:
    """Clusters as places in `ids`."""
    out = space.empty(clusters.size, np.uint32)
    for part in parts(clusters.size):
        out[part] = np.searchsorted(ids, clusters[part])
    return out


def _marked(ids: Ids, some: Ids, space: Workspace) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of `ids` are in `some`."""
    out = space.full(ids.size, False, np.bool_)
    place = np.searchsorted(ids, some)
    known = place < ids.size
    place, some = place[known], some[known]
    out[place[ids[place] == some]] = True
    return out


def _order(now: Ids, by_key: Numbers, space: Workspace) -> Numbers:
    """Places of the rows, best first: by score, then by key."""
    falling = space.empty(now.size, np.uint64)
    for part in parts(now.size):
        falling[part] = ~now[by_key[part]]
    return space.taken(by_key, space.order(falling))


def _merged(  # type: ignore[no-untyped-def]
    graph: Graph, by_key: Numbers, ids: Ids, u, v, key, total, count, now, order, blocked,
    floor: int, half: int, median: bool, chain: Chains, space: Workspace,
):  # fmt: skip
    """The merges, which rows are left, and what clusters are called then."""
    state = State.of(u.size, ids.size, space)
    size = merge(
        u, v, key, total, count, now, order, space.copy(blocked), np.uint64(floor), half, median,
        chain.head, chain.next, chain.bin, chain.count, state,
    )  # fmt: skip
    source = space.taken(by_key, state.key[:size])
    merges = Merges(
        fragment=space.taken(ids, state.child[:size]),
        parent=space.taken(ids, state.parent[:size]),
        sum=state.sum[:size],
        count=state.count[:size],
        key_u=space.taken(graph.key_u, source),
        key_v=space.taken(graph.key_v, source),
    )
    return merges, state.alive, state.name


@nb.njit(nogil=True, cache=True)
def _distinct(ids):  # type: ignore[no-untyped-def]
    """Move the distinct ones of sorted `ids` to the front; returns how many they are."""
    size = 0
    for i in range(ids.size):
        if i == 0 or ids[i] != ids[size - 1]:
            ids[size] = ids[i]
            size += 1
    return size


@nb.njit(nogil=True, cache=True)
def _ranks(order, out):  # type: ignore[no-untyped-def]
    for rank in range(order.size):
        out[order[rank]] = rank


@nb.njit(nogil=True, cache=True)
def _named(kept, u, v, name, ids, low, high):  # type: ignore[no-untyped-def]
    """The rows' ends as clusters are called now, the smaller one first."""
    for i in range(kept.size):
        first, second = ids[name[u[kept[i]]]], ids[name[v[kept[i]]]]
        low[i], high[i] = min(first, second), max(first, second)


@nb.njit(nogil=True, cache=True)
def _kept(u, v, now, alive, open_ended, floor, out):  # type: ignore[no-untyped-def]
    """Put rows that are alive and have no final end into `out`; returns how many they are.

    A frozen cluster, which has merged with nothing, is `open_ended`.
    """
    for row in range(u.size):
        if alive[row] and now[row] >= floor:
            open_ended[u[row]] = True
            open_ended[v[row]] = True
    size = 0
    for row in range(u.size):
        if alive[row] and open_ended[u[row]] and open_ended[v[row]]:
            out[size] = row
            size += 1
    return size
