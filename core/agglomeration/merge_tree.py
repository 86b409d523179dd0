"""The merge tree, and its cuts.

Each merge ends one cluster, so a tree is a table of (fragment, parent, sum, count) in which a
fragment ends at most once. Scores never rise on the way to the root; a cut at a threshold therefore
keeps the merges at or above it, and a segment is a tree of what is left, named by its smallest
fragment, which is its root.

`cut` works on the merges of one block of one level. What its clusters become further up comes from
the cut of the block above, as a table of (fragment, segment).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

from cadseg.agglomeration.hashing import slot_of
from cadseg.agglomeration.scores import scores
from cadseg.renaming import follow, lookup

if TYPE_CHECKING:
    from cadseg.agglomeration.agglomerate import Merges

Ids = np.ndarray[Any, np.dtype[np.uint64]]
Voxels = np.ndarray[Any, np.dtype[np.int64]]


def cut(merges: Merges, above: tuple[Ids, Ids], *, threshold: int, half: int) -> tuple[Ids, Ids]:
    """What the clusters of a block become: sorted (fragment, segment), without those that stay.

    Args:
        merges: of the block.
        above: the same table of the block above, empty at the top.
        threshold: smallest score that holds, from `scores.at_least`.
        half: from `scores.half_bits`.
    """
    holds = holding(merges, threshold=threshold, half=half)
    fragment, parent = merges.fragment[holds], merges.parent[holds]
    order = np.argsort(fragment)
    fragment, parent = fragment[order], parent[order]
    return completed((fragment, follow(fragment, fragment, parent)), above)


def completed(joins: tuple[Ids, Ids], above: tuple[Ids, Ids]) -> tuple[Ids, Ids]:
    """What clusters of a block become: in it, by `joins`, and `above` it; sorted."""
    fragments = np.concatenate((joins[0], above[0]))
    segments = np.concatenate((lookup(joins[1], *above), above[1]))
    order = np.argsort(fragments)
    return fragments[order], segments[order]


def holding(merges: Merges, *, threshold: int, half: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which merges a cut keeps."""
    return np.asarray(scores(merges.sum, merges.count, half) >= np.uint64(threshold))


def smaller_sides(merges: Merges, clusters: Ids, voxels: Voxels) -> Voxels:
    """Voxels of the smaller side of each merge of a block.

    Args:
        merges: best first.
        clusters: sorted, all that merge.
        voxels: that each has, before; and, once this is done, after all merges.
    """
    fragment, parent = (np.searchsorted(clusters, ids) for ids in (merges.fragment, merges.parent))
    return np.asarray(_smaller_sides(fragment, parent, voxels))


def components(u: Ids, v: Ids) -> tuple[Ids, Ids]:
    """Ids that edges connect to a smaller one, sorted, and the smallest that they lead to."""
    ids, ends = np.unique(np.concatenate((u, v)), return_inverse=True)
    smallest = _rooted(ends[: u.size], ends[u.size :], ids.size)
    others = np.flatnonzero(smallest != np.arange(ids.size))
    return ids[others], ids[smallest[others]]


def relabelled(fragments: Ids, table: tuple[Ids, Ids]) -> Ids:
    """Fragments [z, y, x] uint64 as segments; a fragment that is not in `table` stays itself."""
    keys, values = _hashed(*table)
    return np.asarray(_relabelled(fragments, keys, values))


@nb.njit(nogil=True, cache=True)
def _hashed(keys, values):  # type: ignore[no-untyped-def]
    size = 2
    while size < 2 * keys.size + 1:
        size *= 2
    out_keys = np.zeros(size, np.uint64)
    out_values = np.zeros(size, np.uint64)
    for i in range(keys.size):
        slot = slot_of(out_keys, keys[i])
        out_keys[slot] = keys[i]
        out_values[slot] = values[i]
    return out_keys, out_values


@nb.njit(nogil=True, cache=True)
def _relabelled(fragments, keys, values):  # type: ignore[no-untyped-def]
    out = np.empty_like(fragments)
    nz, ny, nx = fragments.shape
    for z in range(nz):
        for y in range(ny):
            before = np.uint64(0)
            after = np.uint64(0)
            for x in range(nx):
                fragment = fragments[z, y, x]
                if fragment != before:
                    before = fragment
                    slot = slot_of(keys, fragment)
                    after = values[slot] if keys[slot] != 0 else fragment
                out[z, y, x] = after
    return out


@nb.njit(nogil=True, cache=True)
def _smaller_sides(fragment, parent, voxels):  # type: ignore[no-untyped-def]
    out = np.empty(fragment.size, np.int64)
    for i in range(fragment.size):
        out[i] = min(voxels[fragment[i]], voxels[parent[i]])
        voxels[parent[i]] += voxels[fragment[i]]
    return out


@nb.njit(nogil=True, cache=True)
def root_of(root, node):  # type: ignore[no-untyped-def]
    """The root of a node; the way to it is halved for the next time."""
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node


@nb.njit(nogil=True, cache=True)
def _rooted(u, v, nodes):  # type: ignore[no-untyped-def]
    """The smallest node that each is connected to."""
    root = np.arange(nodes)
    for i in range(u.size):
        a, b = root_of(root, u[i]), root_of(root, v[i])
        root[max(a, b)] = min(a, b)
    for node in range(nodes):  # a root is smaller than its node, so it is done
        root[node] = root[root[node]]
    return root
