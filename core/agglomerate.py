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
maxima, level 0 makes 81 % of the merges with it, and 62 % without.

A free cluster without an edge at or above the floor is final: its edges are dropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from cadseg.graph import Graph
from cadseg.scores import LARGEST_COUNT, score, scores
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
    """

    fragment: Ids
    parent: Ids
    sum: Ids
    count: Ids


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
    chain = _Chains.of(graph, space)
    now = space.empty(u.size, np.uint64)
    if median:
        _medians(chain.head, chain.next, chain.bin, chain.count, half, now)
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
        ids, u, v, key, total, count, now, _order(now, by_key, space), blocked,
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
    size = _widths(kept, graph.bin.size > 0, chain.head, chain.next, width)
    bins, bin_count = space.empty(size, np.uint32), space.empty(size, np.uint64)
    _unchained(kept, chain.head, chain.next, chain.bin, chain.count, bins, bin_count)
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
def _mixed(value):  # type: ignore[no-untyped-def]
    """Finalizer of SplitMix64 (Steele et al. 2014): a bijection that looks random."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@nb.njit(nogil=True, cache=True)
def _spread(key_u, key_v, out):  # type: ignore[no-untyped-def]
    """The hash by which keys are ordered first."""
    for row in range(out.size):
        out[row] = _mixed(_mixed(key_u[row]) + key_v[row])


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
    ids: Ids, u, v, key, total, count, now, order, blocked,
    floor: int, half: int, median: bool, chain: _Chains, space: Workspace,
):  # fmt: skip
    """The merges, which rows are left, and what clusters are called then."""
    state = _State.of(u.size, ids.size, space)
    size = _merge(
        u, v, key, total, count, now, order, space.copy(blocked), np.uint64(floor), half, median,
        chain.head, chain.next, chain.bin, chain.count, state,
    )  # fmt: skip
    child, parent = state.child[:size], state.parent[:size]
    merges = Merges(
        space.taken(ids, child), space.taken(ids, parent), state.sum[:size], state.count[:size]
    )
    return merges, state.alive, state.name


class _State(NamedTuple):
    """What the merging itself works with."""

    alive: Any  # by row: whether it is still there
    fresh: Any  # by row: whether it still stands in `order` as it is
    name: Any  # by cluster: smallest member
    degree: Any  # by cluster: rows
    # every row hangs in the chains of both its ends: half-row 2 * row + (0 at u, 1 at v)
    head: Any
    follow: Any
    table: Any  # rows by their ends
    heap_score: Any  # a row enters the heap when another ends in it: at most once per row that ends
    heap_key: Any
    heap_row: Any
    child: Any  # the merges
    parent: Any
    sum: Any
    count: Any

    @classmethod
    def of(cls, rows: int, clusters: int, space: Workspace) -> _State:
        """Before the first merge."""
        slots = max(2, 1 << math.ceil(math.log2(1.6 * rows + 2)))
        return cls(
            alive=space.full(rows, True, np.bool_),
            fresh=space.full(rows, True, np.bool_),
            name=space.empty(clusters, np.uint32),
            degree=space.full(clusters, 0, np.uint32),
            head=space.full(clusters, -1, np.int64),
            follow=space.empty(2 * rows, np.int64),
            table=space.full(slots, 0, np.uint32),
            heap_score=space.empty(rows, np.uint64),
            heap_key=space.empty(rows, np.uint32),
            heap_row=space.empty(rows, np.uint32),
            child=space.empty(clusters, np.uint32),
            parent=space.empty(clusters, np.uint32),
            sum=space.empty(clusters, np.uint64),
            count=space.empty(clusters, np.uint64),
        )


@dataclass(frozen=True)
class _Chains:
    """Histograms as chains of bins, one chain per row, so that merging two allocates nothing."""

    head: np.ndarray[Any, np.dtype[np.int64]]
    next: np.ndarray[Any, np.dtype[np.int64]]
    bin: np.ndarray[Any, np.dtype[np.uint32]]
    count: Ids

    @classmethod
    def of(cls, graph: Graph, space: Workspace) -> _Chains:
        head = space.empty(graph.width.size, np.int64)
        follow = space.empty(graph.bin.size, np.int64)
        _chained(graph.width, head, follow)
        return cls(head, follow, space.copy(graph.bin), space.copy(graph.bin_count))


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
def _chained(width, head, follow):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(width.size):
        head[row] = at
        for _ in range(width[row]):
            follow[at] = at + 1
            at += 1
        if width[row] > 0:
            follow[at - 1] = -1


@nb.njit(nogil=True, cache=True)
def _named(kept, u, v, name, ids, low, high):  # type: ignore[no-untyped-def]
    """The rows' ends as clusters are called now, the smaller one first."""
    for i in range(kept.size):
        first, second = ids[name[u[kept[i]]]], ids[name[v[kept[i]]]]
        low[i], high[i] = min(first, second), max(first, second)


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
def _medians(head, follow, bins, counts, half, out):  # type: ignore[no-untyped-def]
    for row in range(head.size):
        out[row] = _median(row, head, follow, bins, counts, half)


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
def _widths(kept, histograms, head, follow, out):  # type: ignore[no-untyped-def]
    """Bins of each of the rows `kept`, and of all together."""
    size = 0
    for i in range(kept.size):
        out[i] = 0
        node = head[kept[i]] if histograms else np.int64(-1)
        while node >= 0:
            out[i] += np.uint32(1)
            size += 1
            node = follow[node]
    return size


@nb.njit(nogil=True, cache=True)
def _unchained(kept, head, follow, bins, counts, out_bin, out_count):  # type: ignore[no-untyped-def]
    """Bins and counts of the rows `kept`, if they have any."""
    at = 0
    for i in range(kept.size if out_bin.size else 0):
        node = head[kept[i]]
        while node >= 0:
            out_bin[at] = bins[node]
            out_count[at] = counts[node]
            at += 1
            node = follow[node]


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
    chain_head, chain_next, chain_bin, chain_count, state,
):  # fmt: skip
    """Merge; returns how often. What describes rows and clusters is then as it is at the end."""
    rows = u.size
    alive, fresh, name, degree = state.alive, state.fresh, state.name, state.degree
    head, follow, table = state.head, state.follow, state.table
    heap_score, heap_key, heap_row = state.heap_score, state.heap_key, state.heap_row
    child, parent, merge_sum, merge_count = state.child, state.parent, state.sum, state.count
    for cluster in range(name.size):
        name[cluster] = cluster
    for row in range(rows):
        _insert(table, u, v, row)
        follow[2 * row] = head[u[row]]
        head[u[row]] = 2 * row
        follow[2 * row + 1] = head[v[row]]
        head[v[row]] = 2 * row + 1
        degree[u[row]] += np.uint32(1)
        degree[v[row]] += np.uint32(1)
    size = 0
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
            best = np.int64(heap_row[0])
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
                        _push(heap_score, heap_key, heap_row, size, now[twin], key[twin], twin)
                        size += 1
            hand = onward
    return merges
