"""Merges of a block → which of them hold because a side is small, and what that joins.

Only where `segment.min_voxels` asks for it, and before `cut`: what is handed down then has to be
known by the names that were handed up here. Fragments go by the names of the components that they
are in so far: the smallest fragment of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration import merge_tree, scores
from cadseg.agglomeration.agglomerate import Merges
from cadseg.agglomeration.segment_table import measured
from cadseg.renaming import lookup
from cadseg.workers.arrays import BASINS
from cadseg.workers.estimates import crossing_clusters
from cadseg.workers.resolve_down import names_of
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.agglomeration.merge_tree import Voxels
    from cadseg.blocks import Block
    from cadseg.fragments.climb import Ids
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write the tables `joins`, `ends` and `voxels` of the block."""
    config = store.config.segment
    tree = Merges(**store.read_table("merges", block.level, block.cell))
    clusters, voxels = _voxels(block, store)
    smaller = merge_tree.smaller_sides(tree, clusters, voxels)
    holds = smaller < config.min_voxels
    holds |= merge_tree.holding(
        tree,
        threshold=scores.at_least(config.threshold, store.affinity_dtype),
        half=scores.half_bits(store.affinity_dtype),
    )
    ends = _ends(block, store)
    u, v = (lookup(key[holds], *ends) for key in (tree.key_u, tree.key_v))
    joins = merge_tree.components(u, v)
    rows = store.read_table("rows", block.level, block.cell, ("u", "v", "key_u", "key_v"))
    frozen = store.read_table("frozen", block.level, block.cell)["fragment"]
    go_up = np.isin(clusters, np.concatenate((rows["u"], rows["v"], frozen)))
    keys = np.unique(np.concatenate((rows["key_u"], rows["key_v"], frozen)))
    now = lookup(lookup(keys, *ends), *joins)
    store.write_table("joins", block, {"fragment": joins[0], "component": joins[1]})
    store.write_table("ends", block, {"fragment": keys, "component": now})
    store.write_table("voxels", block, {"fragment": clusters[go_up], "voxels": voxels[go_up]})
    return {"small": int((smaller < config.min_voxels).sum())}


def _voxels(block: Block, store: Store) -> tuple[Ids, Voxels]:
    """Sorted clusters that may merge in the block, and how large each is before."""
    if block.level == 0:
        names, numbers = names_of(block, store), store.read("basins", block.write)
        rows = measured(numbers, names, names, block.write, store.grid.shape)
        return rows["segment"], rows["voxels"]
    fragment, voxels = _of_children("voxels", block, store)
    clusters, place = np.unique(fragment, return_inverse=True)
    total = np.zeros(clusters.size, np.int64)
    np.add.at(total, place, voxels.astype(np.int64))
    return clusters, total


def _ends(block: Block, store: Store) -> tuple[Ids, Ids]:
    """Fragments that keys of the children's rows name, sorted, and the components they are in.

    What several children name is frozen in each of them, and itself.
    """
    if block.level == 0:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    fragment, component = _of_children("ends", block, store)
    order = np.argsort(fragment)
    return fragment[order], component[order]


def _of_children(kind: str, block: Block, store: Store) -> tuple[Ids, Ids]:
    """Both columns of a table of all children."""
    cells = store.grid.children(block.level, block.cell)
    tables = [store.read_table(kind, block.level - 1, cell).values() for cell in cells]
    first, second = (np.concatenate(columns) for columns in zip(*tables, strict=True))
    return first, second


def cost(work: Work) -> Cost:
    """Level 0 measures the block's basins; above it clusters that cross faces are joined."""
    if work.step.level:
        return Cost(memory=crossing_clusters(work))
    return Cost(memory=11 * work.largest, read=BASINS * work.voxels)


KIND = StepKind(
    name="absorb_small",
    run=run,
    cost=cost,
    reads=("basins",),
    reads_tables=("basins", "exits", "roots", "merges", "rows", "frozen", "ends", "voxels"),
    tables=("joins", "ends", "voxels"),
    on_levels=True,
)
