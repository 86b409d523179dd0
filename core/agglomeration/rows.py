"""The rows of a graph as columns of numbers, and the merges of clusters as they are found.

Clusters are numbers in the order of their names, keys numbers in the order of keys. A row that ends
where it begins is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba as nb
import numpy as np

from cadseg.agglomeration.histograms import join, median_of
from cadseg.agglomeration.scores import score

if TYPE_CHECKING:
    from cadseg.storage.scratch import Workspace


class Rows(NamedTuple):
    """Columns, one element per row."""

    u: Any  # one end, uint32
    v: Any  # the other, uint32
    key: Any  # uint32
    now: Any  # score, uint64
    sum: Any  # uint64
    count: Any  # uint64
    head: Any  # of the chain of the row's histogram, uint32

    def first(self, size: int, space: Workspace) -> Rows:
        """The first rows in arrays of their own, so that those of the others can go."""
        return Rows(*(space.copy(column[:size]) for column in self))


class Tree(NamedTuple):
    """Merges, and what clusters are called after them."""

    name: Any  # by cluster: smallest member
    child: Any  # by merge, as are all that follow
    parent: Any
    key: Any  # of the row that merged, as are all that follow
    now: Any
    sum: Any
    count: Any

    @classmethod
    def of(cls, clusters: int, space: Workspace) -> Tree:
        """Before the first merge."""
        small = [space.empty(clusters, np.uint32) for _ in range(4)]
        small[0][:] = np.arange(clusters, dtype=np.uint32)
        return cls(*small, *(space.empty(clusters, np.uint64) for _ in range(3)))


@nb.njit(nogil=True, cache=True, inline="always")
def record(tree, merges, rows, row, stays, goes):  # type: ignore[no-untyped-def]
    """Note that the clusters `stays` and `goes` merge by `row`, after that many `merges`."""
    one, other = tree.name[stays], tree.name[goes]
    tree.name[stays] = tree.parent[merges] = min(one, other)
    tree.child[merges] = max(one, other)
    tree.key[merges], tree.now[merges] = rows.key[row], rows.now[row]
    tree.sum[merges], tree.count[merges] = rows.sum[row], rows.count[row]


@nb.njit(nogil=True, cache=True, inline="always")
def unite(u, v, key, now, total, count, head, nodes, twin, row, half, median):  # type: ignore[no-untyped-def]
    """Join `row` to the row `twin` between the same clusters."""
    v[row] = u[row]
    key[twin] = max(key[twin], key[row])
    total[twin] += total[row]
    count[twin] += count[row]
    if median:
        head[twin] = join(head[twin], head[row], nodes)
        now[twin] = median_of(head[twin], nodes, half)
    else:
        now[twin] = score(total[twin], count[twin], half)


@nb.njit(nogil=True, cache=True)
def keep(rows, open_ended, floor):  # type: ignore[no-untyped-def]
    """Move rows that are not over and have no final end to the front; returns how many they are.

    A frozen cluster, which has merged with nothing, is `open_ended`.
    """
    for row in range(rows.u.size):
        if rows.u[row] != rows.v[row] and rows.now[row] >= floor:
            open_ended[rows.u[row]] = True
            open_ended[rows.v[row]] = True
    size = 0
    for row in range(rows.u.size):
        u, v = rows.u[row], rows.v[row]
        if u != v and open_ended[u] and open_ended[v]:
            rows.u[size], rows.v[size] = u, v
            rows.key[size], rows.now[size] = rows.key[row], rows.now[row]
            rows.sum[size], rows.count[size] = rows.sum[row], rows.count[row]
            rows.head[size] = rows.head[row]
            size += 1
    return size
