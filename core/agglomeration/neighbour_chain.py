"""Merging clusters that are each other's best partner: the first and by far the most merges.

From a cluster we go to its best partner, from there to that one's, until two are each other's best:
they merge, and we go on from where we had come. All of that happens in one corner of the graph, so
that what it needs is near. But to find the best row of a cluster all of them are looked through: a
cluster with more than MOST would take too long. It merges with nothing here, as if it were frozen;
`cadseg.agglomeration.best_first` goes on with what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba as nb
import numpy as np

from cadseg.agglomeration.rows import record, unite

if TYPE_CHECKING:
    from cadseg.agglomeration.rows import Rows
    from cadseg.storage.scratch import Workspace

MOST = 512
"""Rows of a cluster that are looked through."""


class Ropes(NamedTuple):
    """The rows of every cluster, in its own places and then in those of clusters that joined it."""

    begin: Any  # by cluster: the first of its own places, which end where the next cluster's begin
    hands: Any  # by place: a row
    length: Any  # by cluster: places in use
    onward: Any  # by cluster: the one whose places are used after its own
    last: Any  # by cluster: the one whose places are used last
    mark: Any  # by cluster: its row to the cluster that was looked through last, if it has one

    @classmethod
    def of(cls, rows: Rows, clusters: int, space: Workspace) -> Ropes:
        """Before the first merge."""
        ropes = cls(
            space.full(clusters + 1, 0, np.int64),
            space.empty(2 * rows.u.size, np.uint32),
            *(space.full(clusters, 0, np.uint32) for _ in range(4)),
        )
        _lay(rows, ropes)
        return ropes


@nb.njit(nogil=True, cache=True)
def _lay(rows, ropes):  # type: ignore[no-untyped-def]
    for row in range(rows.u.size):
        ropes.begin[rows.u[row] + 1] += 1
        ropes.begin[rows.v[row] + 1] += 1
    for cluster in range(ropes.length.size):
        ropes.begin[cluster + 1] += ropes.begin[cluster]
        ropes.last[cluster] = cluster
    for row in range(rows.u.size):
        for end in (rows.u[row], rows.v[row]):
            ropes.hands[ropes.begin[end] + ropes.length[end]] = row
            ropes.length[end] += np.uint32(1)


@nb.njit(nogil=True, cache=True)
def merge_partners(rows, nodes, ropes, tree, way, blocked, floor, half, median):  # type: ignore[no-untyped-def]
    """Merge; returns how often, and whether a cluster had more than MOST rows.

    `blocked` are clusters that merge with nothing; those that merge with nothing here are added.
    `way` has room for all clusters. What describes rows and clusters is then as it is at the end,
    except for `ropes`.
    """
    u, v, key, now, total, count, head = rows
    begin, hands, length, onward, last, mark = ropes
    merges = 0
    hubs = False
    for seed in range(blocked.size):
        way[0] = seed
        steps = 0 if blocked[seed] else 1
        while steps:
            here = way[steps - 1]
            best, place, to = _look(here, u, v, key, now, begin, hands, length, onward, mark)
            if best < 0 or now[best] < floor:
                length[here] = 0  # final
                break
            hub = length[here] > MOST
            hubs |= hub
            goes = u[best] ^ v[best] ^ here
            if hub or blocked[goes]:
                for step in range(steps):
                    blocked[way[step]] = True
                break
            if steps == 1 or way[steps - 2] != goes:
                way[steps] = goes
                steps += 1
                continue
            record(tree, merges, rows, best, here, goes)
            merges += 1
            _absorb(
                here, goes, best, place, to, u, v, key, now, total, count, head, nodes,
                half, median, begin, hands, length, onward, last, mark,
            )  # fmt: skip
            steps -= 2  # `here` will be a seed: no cluster that merges lies before the seed
    return merges, hubs


@nb.njit(nogil=True, cache=True, inline="always")
def _look(here, u, v, key, now, begin, hands, length, onward, mark):  # type: ignore[no-untyped-def]
    """The best row of a cluster, and where its rows end: in whose places, and at which.

    Marks the neighbours with their rows, and drops rows that are over.
    """
    place, at, end = here, begin[here], begin[here + 1]
    target, to, target_end = place, at, end
    best = np.int64(-1)
    kept = 0
    for _ in range(length[here]):
        while at == end:
            place = onward[place]
            at, end = begin[place], begin[place + 1]
        row = np.int64(hands[at])
        at += 1
        if u[row] == v[row]:
            continue
        while to == target_end:
            target = onward[target]
            to, target_end = begin[target], begin[target + 1]
        hands[to] = row
        to += 1
        kept += 1
        mark[u[row] ^ v[row] ^ here] = row
        if best < 0 or now[row] > now[best] or (now[row] == now[best] and key[row] < key[best]):
            best = row
    length[here] = kept
    return best, target, to


@nb.njit(nogil=True, cache=True, inline="always")
def _absorb(  # type: ignore[no-untyped-def]
    here, goes, best, target, to, u, v, key, now, total, count, head, nodes,
    half, median, begin, hands, length, onward, last, mark,
):  # fmt: skip
    """Move the rows of `goes` to `here`, which was looked through last; where both have one, join.

    `best` is the row between the two; `target`, `to` is where the rows of `here` end.
    """
    onward[last[here]] = goes
    last[here] = last[goes]
    target_end = begin[target + 1]
    place, at, end = goes, begin[goes], begin[goes + 1]
    for _ in range(length[goes]):
        while at == end:
            place = onward[place]
            at, end = begin[place], begin[place + 1]
        row = np.int64(hands[at])
        at += 1
        if u[row] == v[row] or row == best:
            continue
        other = u[row] ^ v[row] ^ goes
        twin = np.int64(mark[other])
        if u[twin] ^ v[twin] == here ^ other and (u[twin] == here or v[twin] == here):
            unite(u, v, key, now, total, count, head, nodes, twin, row, half, median)
            continue
        u[row], v[row] = here, other
        while to == target_end:
            target = onward[target]
            to, target_end = begin[target], begin[target + 1]
        hands[to] = row
        to += 1
        length[here] += np.uint32(1)
    length[goes] = 0
    v[best] = u[best]
