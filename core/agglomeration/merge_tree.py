"""The merge tree, and its cuts.

Each merge ends one cluster, so a tree is a table of (fragment, parent, sum, count) in which a
fragment ends at most once. Scores never rise on the way to the root; a cut at a threshold therefore
keeps the merges at or above it, and a segment is a tree of what is left, named by its smallest
fragment, which is its root.

`cut` works on the merges of one block of one level. What its clusters become further up comes from
the cut of the block above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.kernels import kernel
from cadseg.renaming import Renaming

if TYPE_CHECKING:
    from cadseg.agglomeration.agglomerate import Merges
    from cadseg.agglomeration.scoring import Scoring
    from cadseg.arrays import Flags, Ids, Integers


def cut(merges: Merges, above: Renaming, *, threshold: int, scoring: Scoring) -> Renaming:
    """The segments that the clusters of a block become.

    Args:
        merges: of the block.
        above: the same of the block above, empty at the top.
        threshold: smallest score that holds, from `Scoring.at_least`.
        scoring: of the merges.
    """
    holds = holding(merges, threshold=threshold, scoring=scoring)
    joins = Renaming.by_id(merges.fragment[holds], merges.parent[holds])
    return joins.followed().then(above)


def holding(merges: Merges, *, threshold: int, scoring: Scoring) -> Flags:
    """Which merges a cut keeps."""
    scores = scoring.of_fractions(merges.sum, merges.count)
    return np.asarray(scores >= np.uint64(threshold))


def smaller_sides(merges: Merges, clusters: Ids, voxels: Integers) -> Integers:
    """Voxels of the smaller side of each merge of a block.

    Args:
        merges: best first.
        clusters: sorted, all that merge.
        voxels: that each has, before; and, once this is done, after all merges.
    """
    fragment, parent = (np.searchsorted(clusters, ids) for ids in (merges.fragment, merges.parent))
    return _smaller_sides(fragment, parent, voxels)


def components(u: Ids, v: Ids) -> Renaming:
    """The smallest id to which edges connect each, itself excepted."""
    ids, ends = np.unique(np.concatenate((u, v)), return_inverse=True)
    smallest = _rooted(ends[: u.size], ends[u.size :], ids.size)
    others = np.flatnonzero(smallest != np.arange(ids.size))
    return Renaming(ids[others], ids[smallest[others]])


@kernel
def _smaller_sides(fragment: Integers, parent: Integers, voxels: Integers) -> Integers:
    out = np.empty(fragment.size, np.int64)
    for i in range(fragment.size):
        out[i] = min(voxels[fragment[i]], voxels[parent[i]])
        voxels[parent[i]] += voxels[fragment[i]]
    return out


@kernel
def root_of(root: Integers, node: int) -> int:
    """The root of a node in a union-find forest, whose paths are halved on the way."""
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node


@kernel
def _rooted(u: Integers, v: Integers, nodes: int) -> Integers:
    """The smallest node that each is connected to."""
    root = np.arange(nodes)
    for i in range(u.size):
        a, b = root_of(root, u[i]), root_of(root, v[i])
        root[max(a, b)] = min(a, b)
    for node in range(nodes):  # a root is smaller than its node, so it is done
        root[node] = root[root[node]]
    return root
