"""Merging best first, over the whole graph: for clusters with any number of rows.

A merge ends the cluster with fewer rows: its rows move to the other one, and where that has a row
to the same neighbour already, the two become one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numba as nb
import numpy as np

from cadseg.agglomeration.heap import better, pop, push
from cadseg.agglomeration.row_index import find, insert, remove
from cadseg.agglomeration.rows import record, unite

if TYPE_CHECKING:
    from cadseg.storage.scratch import Workspace


class State(NamedTuple):
    """What the merging itself works with."""

    fresh: Any  # by row: whether it still stands in the order as it is
    degree: Any  # by cluster: rows
    # every row hangs in the chains of both its ends: half-row 2 * row + (0 at u, 1 at v)
    head: Any
    follow: Any
    table: Any  # rows by their ends
    heap_score: Any  # a row enters the heap when another ends in it: at most once per row that ends
    heap_key: Any
    heap_row: Any

    @classmethod
    def of(cls, rows: int, clusters: int, space: Workspace) -> State:
        """Before the first merge."""
        slots = max(2, 1 << math.ceil(math.log2(1.6 * rows + 2)))
        return cls(
            fresh=space.full(rows, True, np.bool_),
            degree=space.full(clusters, 0, np.uint32),
            head=space.full(clusters, -1, np.int64),
            follow=space.empty(2 * rows, np.int64),
            table=space.full(slots, 0, np.uint32),
            heap_score=space.empty(rows, np.uint64),
            heap_key=space.empty(rows, np.uint32),
            heap_row=space.empty(rows, np.uint32),
        )


@nb.njit(nogil=True, cache=True)
def merge(rows, nodes, order, state, tree, merges, blocked, floor, half, median):  # type: ignore[no-untyped-def]
    """Merge; returns how often, together with the `merges` before.

    `order` are the rows, best first; `blocked` are clusters that merge with nothing, and those that
    are stuck are added. What describes rows and clusters is then as it is at the end.
    """
    u, v, key, now, total, count, chain = rows
    fresh, degree, head, follow, table = (
        state.fresh, state.degree, state.head, state.follow, state.table
    )  # fmt: skip
    heap_score, heap_key, heap_row = state.heap_score, state.heap_key, state.heap_row
    for row in range(u.size):
        insert(table, u, v, row)
        for end, hand in ((u[row], 2 * row), (v[row], 2 * row + 1)):
            follow[hand] = head[end]
            head[end] = hand
            degree[end] += np.uint32(1)
    size = 0
    at = 0
    while True:
        while at < order.size and not (u[order[at]] != v[order[at]] and fresh[order[at]]):
            at += 1
        while size and not (
            u[heap_row[0]] != v[heap_row[0]]
            and now[heap_row[0]] == heap_score[0]
            and key[heap_row[0]] == heap_key[0]
        ):
            pop(heap_score, heap_key, heap_row, size)
            size -= 1
        if at == order.size and size == 0:
            break
        if size and (
            at == order.size or better(heap_score[0], heap_key[0], now[order[at]], key[order[at]])
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
        record(tree, merges, rows, best, stays, goes)
        merges += 1
        remove(table, u, v, best)
        v[best] = u[best]
        degree[stays] -= np.uint32(1)
        hand = head[goes]
        while hand >= 0:
            onward = follow[hand]
            row = hand >> 1
            if u[row] != v[row]:
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
                    degree[other] -= np.uint32(1)
                    was, was_key = now[twin], key[twin]
                    unite(u, v, key, now, total, count, chain, nodes, twin, row, half, median)
                    if now[twin] != was or key[twin] != was_key:
                        fresh[twin] = False
                        push(heap_score, heap_key, heap_row, size, now[twin], key[twin], twin)
                        size += 1
            hand = onward
    return merges
