"""The merge tree, and its cuts.

Each merge ends one cluster, so a tree is a table of (fragment, parent, sum, count) in which a
fragment ends at most once, in a smaller one. Scores never rise on the way to the root; a cut at a
threshold therefore keeps the merges at or above it, and a segment is a tree of what is left, named
by its smallest fragment, which is its root.

`cut` works on the merges of one block of one level. What its clusters become further up comes from
the cut of the block above. Merges come in parts (`cadseg.storage.sorting`), best first.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from cadseg.kernels import in_place
from cadseg.renaming import Renaming, place_of
from cadseg.storage.scratch import Scratch, parts
from cadseg.storage.sorting import collected, distinct, length, merged, ordered, slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cadseg.agglomeration.scoring import Scoring
    from cadseg.arrays import Flags, Ids, Places
    from cadseg.storage.columns import Table


def cut(
    merges: Iterable[Table],
    size: int,
    *,
    threshold: int,
    scoring: Scoring,
    scratch: Scratch,
) -> Renaming:
    """The clusters that a block's merges leave of those that they end.

    Args:
        merges: of the block.
        size: how many they are.
        threshold: smallest score that holds, from `Scoring.at_least`.
        scoring: of the merges.
        scratch: where all arrays are to lie.
    """
    rows = held(merges, ("fragment", "parent"), threshold=threshold, scoring=scoring)
    by_fragment = ordered(rows, ("fragment",), size, scratch, ("parent",))
    joins = Renaming(*collected(by_fragment, ("fragment", "parent"), size, scratch).values())
    joins.follow()
    return joins


def then(first: Renaming, after: Renaming, scratch: Scratch) -> Renaming:
    """First this, then `after`, whose own ids are not in it."""
    renamed = ({"id": part["id"], "name": after.of(part["name"])} for part in _rows(first))
    size = first.ids.size + after.ids.size
    both = merged((renamed, _rows(after)), "id")
    return Renaming(*collected(both, ("id", "name"), size, scratch).values())


def _rows(renaming: Renaming) -> Iterator[Table]:
    return slices({"id": renaming.ids, "name": renaming.names})


def held(
    merges: Iterable[Table],
    columns: tuple[str, ...],
    small: Flags | None = None,
    *,
    threshold: int,
    scoring: Scoring,
) -> Iterator[Table]:
    """Columns of the merges that a cut keeps: those at or above the threshold, or `small` ones."""
    begin = 0
    for part in merges:
        scores = scoring.of_fractions(part["sum"], part["count"])
        holds = scores >= np.uint64(threshold)
        if small is not None:
            holds |= small[begin : begin + holds.size]
        begin += holds.size
        yield {name: part[name][holds] for name in columns}


def small_sides(
    merges: Iterable[Table],
    size: int,
    clusters: Ids,
    voxels: Ids,
    *,
    least: int,
    scratch: Scratch,
) -> Flags:
    """Which merges of a block have a side of fewer voxels than `least`.

    A cluster that ends has by then all that ever joins it. So sides that end follow from the tree
    alone; what the other side has follows from those that joined it before.

    Args:
        merges: of the block; what one builds on stands before it.
        size: how many they are.
        clusters: sorted, all that merge.
        voxels: that each has, before; and, once this is done, after all merges.
        least: voxels.
        scratch: where all arrays are to lie.

    Raises:
        ValueError: a merge is of clusters that are not there, or of one with a larger one.
    """
    if clusters.size != voxels.size:
        raise ValueError("clusters: columns are not of one length")
    before = scratch.copy(voxels)
    rows = ordered(_placed(merges), ("fragment",), size, scratch, ("parent", "place"))
    tree = collected(rows, ("fragment", "parent", "place"), size, scratch)
    side = scratch.empty(tree["fragment"].size, np.uint64)
    _gather(tree["fragment"], tree["parent"], clusters, voxels, side)
    rows = slices({"parent": tree["parent"], "place": tree["place"], "side": side})
    small: Flags = scratch.full(side.size, False, np.bool_)
    state = np.zeros(3, np.uint64)
    for part in ordered(rows, ("parent", "place"), side.size, scratch, ("side",)):
        _compare(part["parent"], part["place"], part["side"], clusters, before, state, least, small)
    return small


def _placed(merges: Iterable[Table]) -> Iterator[Table]:
    """Merges, each with its place."""
    begin = 0
    for part in merges:
        end = begin + length(part)
        place = np.arange(begin, end, dtype=np.uint64)
        yield {"fragment": part["fragment"], "parent": part["parent"], "place": place}
        begin = end


def components(edges: Table, scratch: Scratch) -> Renaming:
    """The smallest id to which edges (u, v) connect each, itself excepted."""
    u, v = edges["u"], edges["v"]
    if u.size != v.size:
        raise ValueError("edges: columns are not of one length")
    ends = itertools.chain(slices({"id": u}), slices({"id": v}))
    nodes = distinct(ordered(ends, ("id",), 2 * u.size, scratch), "id")
    ids = collected(nodes, ("id",), 2 * u.size, scratch)["id"]
    root = scratch.counted(ids.size)
    _join(ids, u, v, root)
    others = _others(ids, root)
    return Renaming(*collected(others, ("id", "name"), ids.size, scratch).values())


def _others(ids: Ids, root: Places) -> Iterator[Table]:
    """Ids that are not the smallest of theirs, and which is."""
    for part in parts(ids.size):
        others = root[part] != np.arange(part.start, part.stop)
        yield {"id": ids[part][others], "name": ids[root[part][others]]}


@in_place
def root_of(root: Places, node: int) -> int:
    """The root of a node in a union-find forest, whose paths are halved on the way."""
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node


@in_place
def _join(ids: Ids, u: Ids, v: Ids, root: Places) -> None:
    """The smallest node that each is connected to."""
    at_u = at_v = 0
    for i in range(u.size):
        at_u, at_v = place_of(ids, u[i], at_u), place_of(ids, v[i], at_v)
        a, b = root_of(root, at_u), root_of(root, at_v)
        root[max(a, b)] = min(a, b)
    for node in range(ids.size):  # a root is smaller than its node, so it is done
        root[node] = root[root[node]]


@in_place
def _gather(fragment: Ids, parent: Ids, clusters: Ids, voxels: Ids, side: Ids) -> None:
    """What each cluster has when it ends; those that join it have larger names: they are done."""
    at = to = 0
    for i in range(fragment.size - 1, -1, -1):
        at, to = place_of(clusters, fragment[i], at), place_of(clusters, parent[i], to)
        if parent[i] >= fragment[i] or max(at, to) >= clusters.size:
            raise ValueError("merges: a fragment does not end in a smaller one of the block")
        if clusters[at] != fragment[i] or clusters[to] != parent[i]:
            raise ValueError("merges: a fragment is not among the clusters of the block")
        side[i] = voxels[at]
        voxels[to] += voxels[at]


@in_place
def _compare(
    parent: Ids,
    place: Ids,
    side: Ids,
    clusters: Ids,
    before: Ids,
    state: Ids,
    least: int,
    small: Flags,
) -> None:
    """Which merges have a small side; `state` is the last parent, where it is and its size."""
    last, at, size = state
    for i in range(parent.size):
        if parent[i] != last:
            last = parent[i]
            at = np.uint64(place_of(clusters, last, int(np.int64(at))))
            size = before[at]
        small[place[i]] = min(size, side[i]) < least
        size += side[i]
    state[0], state[1], state[2] = last, at, size
