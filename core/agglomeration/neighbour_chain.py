"""The nearest-neighbour chain: the first and by far the most merges.

From a cluster the chain goes to its best neighbour, from there to that one's, until two are each
other's best: they merge, and the chain goes on from the cluster before them (Murtagh, The Computer
Journal 26, 1983, p. 354). With a reducible score these merges are those of taking the best row of
the whole graph first. They follow each other in one corner of the graph, so that what they need is
near.

To find the best row of a cluster all of them are looked through: a cluster with more than MOST rows
would take too long. It merges with nothing here, as if it were frozen;
`cadseg.agglomeration.best_first` goes on with what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cadseg.agglomeration.rows import record, unite
from cadseg.kernels import in_place, inlined

if TYPE_CHECKING:
    from cadseg.agglomeration.rows import Rows, Tree
    from cadseg.agglomeration.scoring import Scoring
    from cadseg.arrays import Flags, Int, Integers, Places
    from cadseg.storage.scratch import Scratch

MOST = 512
"""Rows of a cluster that are looked through."""


class Adjacency(NamedTuple):
    """Adjacency lists: the rows of every cluster.

    A list lies in its cluster's own slots, and then in those of clusters that merged with it.

    Attributes:
        begin: by cluster, the first of its own slots, which end where the next cluster's begin.
        slots: rows.
        length: by cluster, of its list.
        following: by cluster, the one whose slots come after its own.
        last: by cluster, the one whose slots come last.
        row_to: by cluster, its row to the cluster whose list was looked through last, if any.
    """

    begin: Integers
    slots: Places
    length: Places
    following: Places
    last: Places
    row_to: Places

    @classmethod
    def of(cls, rows: Rows, clusters: int, scratch: Scratch) -> Adjacency:
        """Before the first merge."""
        adjacency = cls(
            scratch.full(clusters + 1, 0, np.int64),
            scratch.places(2 * rows.u.size),
            *(scratch.full(clusters, 0, scratch.place) for _ in range(4)),
        )
        _fill(rows, adjacency)
        return adjacency


@in_place
def _fill(rows: Rows, adjacency: Adjacency) -> None:
    for row in range(rows.u.size):
        adjacency.begin[rows.u[row] + 1] += 1
        adjacency.begin[rows.v[row] + 1] += 1
    for cluster in range(adjacency.length.size):
        adjacency.begin[cluster + 1] += adjacency.begin[cluster]
        adjacency.last[cluster] = cluster
    for row in range(rows.u.size):
        for end in (rows.u[row], rows.v[row]):
            adjacency.slots[adjacency.begin[end] + adjacency.length[end]] = row
            adjacency.length[end] += np.uint32(1)


@in_place
def merge_chains(
    rows: Rows,
    adjacency: Adjacency,
    tree: Tree,
    chain: Places,
    blocked: Flags,
    floor: Int,
    scoring: Scoring,
) -> tuple[int, bool]:
    """Merge; returns how often, and whether a cluster had more than MOST rows.

    `blocked` are clusters that merge with nothing; those that merge with nothing here are added.
    `chain` has room for all clusters. Rows are left as they are in the end, the lists are not.
    """
    merges = 0
    hubs = False
    for seed in range(blocked.size):
        chain[0] = seed
        links = 0 if blocked[seed] else 1
        while links:
            here = chain[links - 1]
            best, owner, at = _nearest(rows, adjacency, here)
            if best < 0 or rows.score[best] < floor:
                adjacency.length[here] = 0  # final
                break
            neighbour = rows.u[best] ^ rows.v[best] ^ here
            hub = adjacency.length[here] > MOST
            hubs |= hub
            if hub or blocked[neighbour]:
                for link in range(links):
                    blocked[chain[link]] = True
                break
            if links == 1 or chain[links - 2] != neighbour:
                chain[links] = neighbour
                links += 1
                continue
            record(tree, merges, rows, best, scoring)
            merges += 1
            _absorb(rows, adjacency, best, here, owner, at, scoring)
            links -= 2  # `here` will be a seed: no cluster that merges lies before the seed
    return merges, hubs


@inlined
def _nearest(rows: Rows, adjacency: Adjacency, here: Int) -> tuple[Int, Int, Int]:
    """The best row of a cluster, -1 for none, and where its list ends: whose slots, and which.

    Drops rows that have ended from the list, and notes for every neighbour its row to `here`.
    """
    u, v, key, score = rows.u, rows.v, rows.key, rows.score
    begin, slots, length, following, _last, row_to = adjacency
    owner, at, end = here, begin[here], begin[here + 1]
    to_owner, to, to_end = owner, at, end
    best = np.int64(-1)
    kept = 0
    for _ in range(length[here]):
        while at == end:
            owner = following[owner]
            at, end = begin[owner], begin[owner + 1]
        row = np.int64(slots[at])
        at += 1
        if u[row] == v[row]:
            continue
        while to == to_end:
            to_owner = following[to_owner]
            to, to_end = begin[to_owner], begin[to_owner + 1]
        slots[to] = row
        to += 1
        kept += 1
        row_to[u[row] ^ v[row] ^ here] = row
        if (
            best < 0
            or score[row] > score[best]
            or (score[row] == score[best] and key[row] < key[best])
        ):
            best = row
    length[here] = kept
    return best, to_owner, to


@inlined
def _absorb(
    rows: Rows, adjacency: Adjacency, best: Int, here: Int, to_owner: Int, to: Int, scoring: Scoring
) -> None:
    """Move the rows of a cluster to its neighbour `here`; where both have one, join them.

    `best` is the row between the two. The list of `here`, which was looked through last, ends
    before the slot `to`, one of `to_owner`.
    """
    u, v = rows.u, rows.v
    begin, slots, length, following, last, row_to = adjacency
    goes = u[best] ^ v[best] ^ here
    following[last[here]] = goes
    last[here] = last[goes]
    to_end = begin[to_owner + 1]
    owner, at, end = goes, begin[goes], begin[goes + 1]
    for _ in range(length[goes]):
        while at == end:
            owner = following[owner]
            at, end = begin[owner], begin[owner + 1]
        row = np.int64(slots[at])
        at += 1
        if u[row] == v[row] or row == best:
            continue
        other = u[row] ^ v[row] ^ goes
        twin = np.int64(row_to[other])
        if u[twin] ^ v[twin] == here ^ other and (u[twin] == here or v[twin] == here):
            unite(rows, twin, row, scoring)
            continue
        u[row], v[row] = here, other
        while to == to_end:
            to_owner = following[to_owner]
            to, to_end = begin[to_owner], begin[to_owner + 1]
        slots[to] = row
        to += 1
        length[here] += np.uint32(1)
    length[goes] = 0
    v[best] = u[best]
