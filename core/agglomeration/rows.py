"""The rows of a graph as columns of numbers, and the merges of clusters as they are found.

Clusters are numbers in the order of their names, keys numbers in the order of keys. A row whose
ends are equal has ended: its clusters have merged, or it was joined to another row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cadseg.agglomeration.histograms import linked, unlinked
from cadseg.agglomeration.scoring import fraction, join, score_of
from cadseg.kernels import in_place, inlined

if TYPE_CHECKING:
    from cadseg.agglomeration.histograms import Nodes
    from cadseg.agglomeration.scoring import Scoring
    from cadseg.arrays import Flags, Ids, Int, Places
    from cadseg.storage.scratch import Scratch


class Rows(NamedTuple):
    """Columns, one element per row.

    Attributes:
        u, v: the clusters at both ends.
        key: by which ties are broken.
        score: with which the row may merge its ends.
        sum: of the affinities of the contact.
        area: of the contact, in voxel pairs.
        histogram: the first node of the row's histogram.
        nodes: of all histograms; no column.
    """

    u: Places
    v: Places
    key: Places
    score: Ids
    sum: Ids
    area: Ids
    histogram: Places
    nodes: Nodes

    def first(self, size: int, scratch: Scratch) -> Rows:
        """The first rows, with each histogram in one place, in arrays that hold nothing else."""
        histograms = unlinked(self.histogram[:size], self.nodes, scratch)
        columns = {name: scratch.copy(getattr(self, name)[:size]) for name in self._fields[:-2]}
        first, nodes = linked(*histograms, scratch)
        return Rows(**columns, histogram=first, nodes=nodes)


class Tree(NamedTuple):
    """Merges as they are found, and the names of clusters after them.

    Attributes:
        name: by cluster, its smallest member.
        child, parent: by merge, the name that ends and the one that stays.
        key, score: of the row that merged them.
        numerator, denominator: its score as a fraction.
    """

    name: Places
    child: Places
    parent: Places
    key: Places
    score: Ids
    numerator: Ids
    denominator: Ids

    @classmethod
    def of(cls, clusters: int, scratch: Scratch) -> Tree:
        """Before the first merge."""
        places = (scratch.places(clusters) for _ in range(3))
        scores = (scratch.empty(clusters, np.uint64) for _ in range(3))
        return cls(scratch.counted(clusters), *places, *scores)

    def first(self, merges: int) -> Tree:
        """So many merges."""
        return Tree(self.name, *(getattr(self, name)[:merges] for name in self._fields[1:]))


@in_place
def score_all(rows: Rows, scoring: Scoring) -> None:
    """Score every row."""
    for row in range(rows.u.size):
        rows.score[row] = score_of(rows, row, scoring)


@inlined
def record(tree: Tree, merges: Int, rows: Rows, row: Int, scoring: Scoring) -> None:
    """Note that `row` merges its clusters, after that many `merges`."""
    one, other = tree.name[rows.u[row]], tree.name[rows.v[row]]
    tree.name[rows.u[row]] = tree.name[rows.v[row]] = tree.parent[merges] = min(one, other)
    tree.child[merges] = max(one, other)
    tree.key[merges], tree.score[merges] = rows.key[row], rows.score[row]
    tree.numerator[merges], tree.denominator[merges] = fraction(rows, row, scoring)


@inlined
def unite(rows: Rows, row: Int, other: Int, scoring: Scoring) -> None:
    """Join `other` to `row`, which is between the same clusters."""
    rows.v[other] = rows.u[other]
    rows.key[row] = max(rows.key[row], rows.key[other])
    rows.sum[row] += rows.sum[other]
    rows.area[row] += rows.area[other]
    join(rows, row, other, scoring)
    rows.score[row] = score_of(rows, row, scoring)


@in_place
def keep(rows: Rows, open_ended: Flags, floor: Int) -> int:
    """Move rows that have not ended, and have no final end, to the front; returns how many.

    A frozen cluster, which has merged with nothing, is `open_ended`.
    """
    for row in range(rows.u.size):
        if rows.u[row] != rows.v[row] and rows.score[row] >= floor:
            open_ended[rows.u[row]] = True
            open_ended[rows.v[row]] = True
    size = 0
    for row in range(rows.u.size):
        u, v = rows.u[row], rows.v[row]
        if u != v and open_ended[u] and open_ended[v]:
            rows.u[size], rows.v[size] = u, v
            rows.key[size], rows.score[size] = rows.key[row], rows.score[row]
            rows.sum[size], rows.area[size] = rows.sum[row], rows.area[row]
            rows.histogram[size] = rows.histogram[row]
            size += 1
    return size
