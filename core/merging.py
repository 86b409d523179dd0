"""Merging best first, on columns of numbers: the loop behind `cadseg.agglomerate`.

Rows and clusters are numbers. A merge ends the cluster with fewer rows: its rows move to the other
one, and where that has a row to the same neighbour already, the two become one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numba as nb
import numpy as np

from cadseg.histograms import join, median_of
from cadseg.row_heap import better, pop, push
from cadseg.row_table import find, insert, remove
from cadseg.scores import score

if TYPE_CHECKING:
    from cadseg.spill import Workspace


class State(NamedTuple):
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
    key: Any
    sum: Any
    count: Any

    @classmethod
    def of(cls, rows: int, clusters: int, space: Workspace) -> State:
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
            key=space.empty(clusters, np.uint32),
            sum=space.empty(clusters, np.uint64),
            count=space.empty(clusters, np.uint64),
        )


@nb.njit(nogil=True, cache=True)
def merge(  # type: ignore[no-untyped-def]
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
        insert(table, u, v, row)
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
            pop(heap_score, heap_key, heap_row, size)
            size -= 1
        if at == rows and size == 0:
            break
        if size and (
            at == rows or better(heap_score[0], heap_key[0], now[order[at]], key[order[at]])
        ):
            best = np.int64(heap_row[0])
            pop(heap_score, heap_key, heap_row, size)
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
        state.key[merges] = key[best]
        merges += 1
        name[stays] = min(name[stays], name[goes])
        remove(table, u, v, best)
        alive[best] = False
        degree[stays] -= np.uint32(1)
        hand = head[goes]
        while hand >= 0:
            onward = follow[hand]
            row = hand >> 1
            if alive[row]:
                other = v[row] if hand & 1 == 0 else u[row]
                remove(table, u, v, row)
                twin = find(table, u, v, stays, other)
                if twin < 0:
                    if hand & 1 == 0:
                        u[row] = stays
                    else:
                        v[row] = stays
                    insert(table, u, v, row)
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
                        chain_head[twin] = join(
                            chain_head[twin], chain_head[row], chain_next, chain_bin, chain_count
                        )
                        now[twin] = median_of(
                            twin, chain_head, chain_next, chain_bin, chain_count, half
                        )
                    else:
                        now[twin] = score(total[twin], count[twin], half)
                    if now[twin] != was or key[twin] != was_key:
                        fresh[twin] = False
                        push(heap_score, heap_key, heap_row, size, now[twin], key[twin], twin)
                        size += 1
            hand = onward
    return merges
