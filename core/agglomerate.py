"""Agglomeration inside one block: best edge first, as far as the block can know.

Hierarchical merging with a reducible score (the mean, any quantile) gives the same tree whichever
pairs of clusters that are each other's best are merged first (Lu, Zlateski, Seung, arXiv
2106.10795). So a block merges what it can see is best, and hands the rest up.

A *frozen* cluster may have edges or voxels that the block does not see: it merges with nothing
here, and nor does a cluster whose best edge leads to one that does not (such a cluster is
*stuck*). Edges are taken best first: by score, then by the smaller key. The key of a merged edge
is the largest of its parts' keys; with it, a merged edge is never better than the better of its
parts, not even between ties.

A free cluster without an edge at or above the floor is final: its edges are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np

from cadseg.graph import Graph
from cadseg.scores import LARGEST_COUNT, score, scores

Ids = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Merges:
    """Merges of clusters, best first.

    Attributes:
        fragment: the cluster that ends, named by its smallest fragment, uint64.
        parent: the cluster that it joins, which has the smaller name, uint64.
        sum, count: the score as a fraction, in units of the affinities' dtype, uint64. For the
            median of maxima the bin and 1.
    """

    fragment: Ids
    parent: Ids
    sum: Ids
    count: Ids


def agglomerate(
    graph: Graph, frozen: Ids, *, floor: int, half: int, median: bool
) -> tuple[Merges, Graph]:
    """Merge all that can be merged here; returns the merges and the rows that remain.

    Args:
        graph: all rows of the block.
        frozen: clusters that may go on outside.
        floor: smallest score that merges, from `scores.at_least`.
        half: from `scores.half_bits`.
        median: score by the median of maxima; else by the mean.
    """
    assert not graph.count.size or int(graph.count.sum(dtype=np.float64)) < LARGEST_COUNT
    ids, ends = np.unique(np.concatenate((graph.u, graph.v)), return_inverse=True)
    u, v = ends[: graph.u.size].astype(np.uint32), ends[graph.u.size :].astype(np.uint32)
    rank = np.empty(u.size, np.uint32)
    rank[np.lexsort((graph.key_v, graph.key_u))] = np.arange(u.size, dtype=np.uint32)
    total, count = graph.sum.copy(), graph.count.copy()
    chain = _Chains.of(graph)
    if median:
        first = _medians(chain.head, chain.next, chain.bin, chain.count, half)
    else:
        first = scores(total, count, half)
    order = np.lexsort((rank, ~first)).astype(np.uint32)
    blocked = np.isin(ids, frozen)
    key = rank.copy()
    child, parent, merge_sum, merge_count, alive, name = _merge(
        u, v, key, total, count, first, order, blocked.copy(), np.uint64(floor), half, median,
        chain.head, chain.next, chain.bin, chain.count,
    )  # fmt: skip
    merges = Merges(ids[child], ids[parent], merge_sum, merge_count)
    kept = _kept(u, v, first, alive, blocked, np.uint64(floor))
    return merges, _rows(graph, ids, name, u, v, key, rank, total, count, kept, chain)


@dataclass(frozen=True)
class _Chains:
    """Histograms as chains of bins, one chain per row, so that merging two allocates nothing."""

    head: np.ndarray[Any, np.dtype[np.int64]]
    next: np.ndarray[Any, np.dtype[np.int64]]
    bin: np.ndarray[Any, np.dtype[np.uint32]]
    count: Ids

    @classmethod
    def of(cls, graph: Graph) -> _Chains:
        starts = graph.starts
        follow = np.arange(1, graph.bin.size + 1)
        last = starts[1:][graph.width > 0] - 1
        follow[last] = -1
        return cls(starts[:-1].copy(), follow, graph.bin.copy(), graph.bin_count.copy())


def _rows(  # type: ignore[no-untyped-def]
    graph: Graph, ids: Ids, name, u, v, key, rank, total, count, kept, chain: _Chains
) -> Graph:
    """The rows `kept`, between clusters as they are now, sorted."""
    first, second = ids[name[u[kept]]], ids[name[v[kept]]]
    low, high = np.minimum(first, second), np.maximum(first, second)
    by_rank = np.empty_like(rank)
    by_rank[rank] = np.arange(rank.size, dtype=np.uint32)
    source = by_rank[key[kept]]
    width, bins, bin_count = _unchained(
        kept, graph.bin.size > 0, chain.head, chain.next, chain.bin, chain.count
    )
    remaining = Graph(
        u=low,
        v=high,
        key_u=graph.key_u[source],
        key_v=graph.key_v[source],
        sum=total[kept],
        count=count[kept],
        width=width,
        bin=bins,
        bin_count=bin_count,
    )
    return remaining.taken(np.lexsort((high, low)))


@nb.njit(nogil=True, cache=True)
def _median(row, head, follow, bins, counts, half):  # type: ignore[no-untyped-def]
    """Score of a row's median: the bin of the (n // 2 + 1)-th smallest maximum, as in waterz."""
    total = np.uint64(0)
    node = head[row]
    while node >= 0:
        total += counts[node]
        node = follow[node]
    pivot = total // np.uint64(2) + np.uint64(1)
    node = head[row]
    below = counts[node]
    while below < pivot:
        node = follow[node]
        below += counts[node]
    return score(np.uint64(bins[node]), np.uint64(1), half)


@nb.njit(nogil=True, cache=True)
def _medians(head, follow, bins, counts, half):  # type: ignore[no-untyped-def]
    out = np.empty(head.size, np.uint64)
    for row in range(head.size):
        out[row] = _median(row, head, follow, bins, counts, half)
    return out


@nb.njit(nogil=True, cache=True)
def _join_chains(first, second, follow, bins, counts):  # type: ignore[no-untyped-def]
    """Two ascending chains as one; returns its head."""
    head = -1
    tail = -1
    while first >= 0 or second >= 0:
        if second < 0 or (first >= 0 and bins[first] <= bins[second]):
            node, first = first, follow[first]
        else:
            node, second = second, follow[second]
        if tail >= 0 and bins[tail] == bins[node]:
            counts[tail] += counts[node]
        else:
            if tail < 0:
                head = node
            else:
                follow[tail] = node
            tail = node
    follow[tail] = -1
    return head


@nb.njit(nogil=True, cache=True)
def _unchained(kept, histograms, head, follow, bins, counts):  # type: ignore[no-untyped-def]
    """Widths, bins and counts of the rows `kept`."""
    width = np.zeros(kept.size, np.uint32)
    size = 0
    if histograms:
        for i in range(kept.size):
            node = head[kept[i]]
            while node >= 0:
                width[i] += np.uint32(1)
                size += 1
                node = follow[node]
    out_bin = np.empty(size, np.uint32)
    out_count = np.empty(size, np.uint64)
    size = 0
    if histograms:
        for i in range(kept.size):
            node = head[kept[i]]
            while node >= 0:
                out_bin[size] = bins[node]
                out_count[size] = counts[node]
                size += 1
                node = follow[node]
    return width, out_bin, out_count


@nb.njit(nogil=True, cache=True)
def _kept(u, v, now, alive, frozen, floor):  # type: ignore[no-untyped-def]
    """Rows that are alive and have no final end. A frozen cluster has merged with nothing."""
    open_ended = frozen.copy()
    for row in range(u.size):
        if alive[row] and now[row] >= floor:
            open_ended[u[row]] = True
            open_ended[v[row]] = True
    out = np.empty(u.size, np.int64)
    size = 0
    for row in range(u.size):
        if alive[row] and open_ended[u[row]] and open_ended[v[row]]:
            out[size] = row
            size += 1
    return out[:size]


# a hash table of rows by their two ends: linear probing, 0 is empty, row + 1 otherwise


@nb.njit(nogil=True, cache=True)
def _place(a, b, last):  # type: ignore[no-untyped-def]
    low, high = np.uint64(min(a, b)), np.uint64(max(a, b))
    key = (high << np.uint64(32)) | low
    key ^= key >> np.uint64(30)
    key *= np.uint64(0xBF58476D1CE4E5B9)
    key ^= key >> np.uint64(27)
    return np.int64(key & np.uint64(last))


@nb.njit(nogil=True, cache=True)
def _find(table, u, v, a, b):  # type: ignore[no-untyped-def]
    """The row between `a` and `b`, or -1."""
    last = table.size - 1
    place = _place(a, b, last)
    while table[place] != 0:
        row = np.int64(table[place]) - 1
        if (u[row] == a and v[row] == b) or (u[row] == b and v[row] == a):
            return row
        place = (place + 1) & last
    return np.int64(-1)


@nb.njit(nogil=True, cache=True)
def _insert(table, u, v, row):  # type: ignore[no-untyped-def]
    last = table.size - 1
    place = _place(u[row], v[row], last)
    while table[place] != 0:
        place = (place + 1) & last
    table[place] = np.uint32(row + 1)


@nb.njit(nogil=True, cache=True)
def _remove(table, u, v, row):  # type: ignore[no-untyped-def]
    """Take `row` out, and move back what had to probe past it."""
    last = table.size - 1
    place = _place(u[row], v[row], last)
    while table[place] != row + 1:
        place = (place + 1) & last
    hole = place
    while True:
        table[hole] = 0
        while True:
            place = (place + 1) & last
            if table[place] == 0:
                return
            other = np.int64(table[place]) - 1
            wanted = _place(u[other], v[other], last)
            if ((place - wanted) & last) >= ((place - hole) & last):
                break
        table[hole] = table[place]
        hole = place


# a heap of rows, best first: larger score, then smaller key. An entry is stale when its row has
# changed since


@nb.njit(nogil=True, cache=True)
def _better(score_a, key_a, score_b, key_b):  # type: ignore[no-untyped-def]
    return score_a > score_b or (score_a == score_b and key_a < key_b)


@nb.njit(nogil=True, cache=True)
def _push(heap_score, heap_key, heap_row, size, now, key, row):  # type: ignore[no-untyped-def]
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if not _better(now, key, heap_score[up], heap_key[up]):
            break
        heap_score[at], heap_key[at], heap_row[at] = heap_score[up], heap_key[up], heap_row[up]
        at = up
    heap_score[at], heap_key[at], heap_row[at] = now, key, row


@nb.njit(nogil=True, cache=True)
def _pop(heap_score, heap_key, heap_row, size):  # type: ignore[no-untyped-def]
    """Drop the best of `size` entries."""
    size -= 1
    now, key, row = heap_score[size], heap_key[size], heap_row[size]
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and _better(
            heap_score[down + 1], heap_key[down + 1], heap_score[down], heap_key[down]
        ):
            down += 1
        if not _better(heap_score[down], heap_key[down], now, key):
            break
        heap_score[at], heap_key[at], heap_row[at] = (
            heap_score[down],
            heap_key[down],
            heap_row[down],
        )
        at = down
    heap_score[at], heap_key[at], heap_row[at] = now, key, row


@nb.njit(nogil=True, cache=True)
def _merge(  # type: ignore[no-untyped-def]
    u, v, key, total, count, now, order, blocked, floor, half, median,
    chain_head, chain_next, chain_bin, chain_count,
):  # fmt: skip
    rows, clusters = u.size, blocked.size
    alive = np.ones(rows, np.bool_)
    fresh = np.ones(rows, np.bool_)  # whether a row still stands in `order` as it is
    name = np.arange(clusters).astype(np.uint32)  # smallest member, by cluster
    degree = np.zeros(clusters, np.uint32)
    # every row hangs in the chains of both its ends: half-row 2 * row + (0 at u, 1 at v)
    head = np.full(clusters, -1, np.int64)
    follow = np.full(2 * rows, -1, np.int64)
    table = np.zeros(max(2, 1 << int(np.ceil(np.log2(1.6 * rows + 2)))), np.uint32)
    for row in range(rows):
        _insert(table, u, v, row)
        follow[2 * row] = head[u[row]]
        head[u[row]] = 2 * row
        follow[2 * row + 1] = head[v[row]]
        head[v[row]] = 2 * row + 1
        degree[u[row]] += np.uint32(1)
        degree[v[row]] += np.uint32(1)
    heap_score = np.empty(1024, np.uint64)
    heap_key = np.empty(1024, np.uint32)
    heap_row = np.empty(1024, np.int64)
    size = 0
    child = np.empty(clusters, np.uint32)
    parent = np.empty(clusters, np.uint32)
    merge_sum = np.empty(clusters, np.uint64)
    merge_count = np.empty(clusters, np.uint64)
    merges = 0
    at = 0
    while True:
        while at < rows and not (alive[order[at]] and fresh[order[at]]):
            at += 1
        while size and not (
            alive[heap_row[0]]
            and now[heap_row[0]] == heap_score[0]
            and key[heap_row[0]] == heap_key[0]
        ):
            _pop(heap_score, heap_key, heap_row, size)
            size -= 1
        if at == rows and size == 0:
            break
        if size and (
            at == rows or _better(heap_score[0], heap_key[0], now[order[at]], key[order[at]])
        ):
            best = heap_row[0]
            _pop(heap_score, heap_key, heap_row, size)
            size -= 1
        else:
            best = np.int64(order[at])
            at += 1
        if now[best] < floor:
            break
        stays, goes = u[best], v[best]
        if blocked[stays] or blocked[goes]:
            blocked[stays] = True
            blocked[goes] = True
            continue
        if degree[stays] < degree[goes]:
            stays, goes = goes, stays
        if median:
            merge_sum[merges] = now[best] >> np.uint64(2 * half)
            merge_count[merges] = 1
        else:
            merge_sum[merges] = total[best]
            merge_count[merges] = count[best]
        child[merges] = max(name[stays], name[goes])
        parent[merges] = min(name[stays], name[goes])
        merges += 1
        name[stays] = min(name[stays], name[goes])
        _remove(table, u, v, best)
        alive[best] = False
        degree[stays] -= np.uint32(1)
        hand = head[goes]
        while hand >= 0:
            onward = follow[hand]
            row = hand >> 1
            if alive[row]:
                other = v[row] if hand & 1 == 0 else u[row]
                _remove(table, u, v, row)
                twin = _find(table, u, v, stays, other)
                if twin < 0:
                    if hand & 1 == 0:
                        u[row] = stays
                    else:
                        v[row] = stays
                    _insert(table, u, v, row)
                    follow[hand] = head[stays]
                    head[stays] = hand
                    degree[stays] += np.uint32(1)
                else:
                    alive[row] = False
                    degree[other] -= np.uint32(1)
                    total[twin] += total[row]
                    count[twin] += count[row]
                    was, was_key = now[twin], key[twin]
                    key[twin] = max(key[twin], key[row])
                    if median:
                        chain_head[twin] = _join_chains(
                            chain_head[twin], chain_head[row], chain_next, chain_bin, chain_count
                        )
                        now[twin] = _median(
                            twin, chain_head, chain_next, chain_bin, chain_count, half
                        )
                    else:
                        now[twin] = score(total[twin], count[twin], half)
                    if now[twin] != was or key[twin] != was_key:
                        fresh[twin] = False
                        if size == heap_score.size:
                            heap_score = np.concatenate((heap_score, np.empty_like(heap_score)))
                            heap_key = np.concatenate((heap_key, np.empty_like(heap_key)))
                            heap_row = np.concatenate((heap_row, np.empty_like(heap_row)))
                        _push(heap_score, heap_key, heap_row, size, now[twin], key[twin], twin)
                        size += 1
            hand = onward
    return (
        child[:merges],
        parent[:merges],
        merge_sum[:merges],
        merge_count[:merges],
        alive,
        name,
    )
