"""Merging best first, over the whole graph: for clusters with any number of rows.

A merge ends the cluster with fewer rows: its rows move to the other one, and where that has a row
to the same neighbour already, the two are joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cadseg.agglomeration.heap import Heap, better, pop, push
from cadseg.agglomeration.row_index import find, insert, remove, table_for
from cadseg.agglomeration.rows import record, unite
from cadseg.kernels import in_place, inlined

if TYPE_CHECKING:
    from cadseg.agglomeration.rows import Rows, Tree
    from cadseg.agglomeration.scoring import Scoring
    from cadseg.arrays import Flags, Int, Integers, Places
    from cadseg.storage.scratch import Scratch


class Queue(NamedTuple):
    """Rows in the order in which they may merge their ends.

    Attributes:
        order: rows as they were at the start, best first.
        at: how many of them have been taken, [1].
        fresh: by row, whether it has not changed since the start.
        heap: rows that have changed: at most one for each row that another was joined to.
    """

    order: Places
    at: Integers
    fresh: Flags
    heap: Heap


class State(NamedTuple):
    """The graph, and what comes next.

    Attributes:
        queue: of all rows.
        by_ends: hash table of rows by their ends.
        degree: by cluster, how many rows it has.
        first: by cluster, the first of its half-edges, -1 for none.
        next: by half-edge, the next one of the same cluster. A row is two half-edges, 2 * row at
            its end u and 2 * row + 1 at v.
    """

    queue: Queue
    by_ends: Places
    degree: Places
    first: Integers
    next: Integers

    @classmethod
    def of(cls, rows: Rows, clusters: int, order: Places, scratch: Scratch) -> State:
        """Before the first merge; `order` are the rows, best first."""
        size = rows.u.size
        fresh, heap = scratch.full(size, True, np.bool_), Heap.of(size, scratch)
        state = cls(
            queue=Queue(order, np.zeros(1, np.int64), fresh, heap),
            by_ends=table_for(size, scratch),
            degree=scratch.full(clusters, 0, scratch.place),
            first=scratch.full(clusters, -1, np.int64),
            next=scratch.empty(2 * size, np.int64),
        )
        _fill(rows, state)
        return state


@in_place
def _fill(rows: Rows, state: State) -> None:
    for row in range(rows.u.size):
        insert(state.by_ends, rows.u, rows.v, row)
        _attach(state, rows.u[row], 2 * row)
        _attach(state, rows.v[row], 2 * row + 1)


@inlined
def _attach(state: State, cluster: Int, half_edge: Int) -> None:
    state.next[half_edge] = state.first[cluster]
    state.first[cluster] = half_edge
    state.degree[cluster] += np.uint32(1)


@in_place
def merge_best(
    rows: Rows,
    state: State,
    tree: Tree,
    merges: int,
    blocked: Flags,
    floor: Int,
    scoring: Scoring,
) -> int:
    """Merge; returns how often, together with the `merges` before.

    `blocked` are clusters that merge with nothing, and those that are stuck are added. Rows are
    left as they are in the end.
    """
    while True:
        best = _next_best(rows, state.queue)
        if best < 0 or rows.score[best] < floor:
            return merges
        stays, goes = rows.u[best], rows.v[best]
        if blocked[stays] or blocked[goes]:
            blocked[stays] = True
            blocked[goes] = True
            continue
        if state.degree[stays] < state.degree[goes]:
            stays, goes = goes, stays
        record(tree, merges, rows, best, scoring)
        merges += 1
        remove(state.by_ends, rows.u, rows.v, best)
        rows.v[best] = rows.u[best]
        state.degree[stays] -= np.uint32(1)
        _absorb(rows, state, stays, goes, scoring)


@inlined
def _next_best(rows: Rows, queue: Queue) -> Int:
    """Take the best row that has not ended out of the queue; -1 if there is none."""
    order, at, fresh, heap = queue
    while at[0] < order.size and not (
        fresh[order[at[0]]] and rows.u[order[at[0]]] != rows.v[order[at[0]]]
    ):
        at[0] += 1
    while heap.size[0] and _stale(rows, heap):
        pop(heap)
    unchanged = np.int64(-1)
    if at[0] < order.size:
        unchanged = np.int64(order[at[0]])
    if heap.size[0] and (
        unchanged < 0
        or better(heap.score[0], heap.key[0], rows.score[unchanged], rows.key[unchanged])
    ):
        changed = np.int64(heap.row[0])
        pop(heap)
        return changed
    at[0] += 1
    return unchanged


@inlined
def _stale(rows: Rows, heap: Heap) -> bool:
    """Whether the row of the first entry has ended or changed since."""
    row = heap.row[0]
    same = rows.score[row] == heap.score[0] and rows.key[row] == heap.key[0]
    return rows.u[row] == rows.v[row] or not same


@inlined
def _absorb(rows: Rows, state: State, stays: Int, goes: Int, scoring: Scoring) -> None:
    """Move the rows of a cluster that ends to the one that stays; where both have one, join."""
    half_edge = state.first[goes]
    while half_edge >= 0:
        following = state.next[half_edge]
        row = half_edge >> 1
        if rows.u[row] != rows.v[row]:
            other = rows.v[row] if half_edge & 1 == 0 else rows.u[row]
            remove(state.by_ends, rows.u, rows.v, row)
            twin = find(state.by_ends, rows.u, rows.v, stays, other)
            if twin < 0:
                if half_edge & 1 == 0:
                    rows.u[row] = stays
                else:
                    rows.v[row] = stays
                insert(state.by_ends, rows.u, rows.v, row)
                _attach(state, stays, half_edge)
            else:
                state.degree[other] -= np.uint32(1)
                score, key = rows.score[twin], rows.key[twin]
                unite(rows, twin, row, scoring)
                if rows.score[twin] != score or rows.key[twin] != key:
                    state.queue.fresh[twin] = False
                    push(state.queue.heap, rows.score[twin], rows.key[twin], twin)
        half_edge = following
