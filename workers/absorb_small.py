"""Merges of a block → the components of those that hold: at the threshold, or as a side is small.

A step of runs with `segment.min_voxels`, before `cut`. A component is named by its smallest
fragment. Level by level, up to the block that holds everything, components of children are joined;
`cut` hands their final names down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration import merge_tree
from cadseg.agglomeration.agglomerate import Merges
from cadseg.agglomeration.segment_table import measured
from cadseg.renaming import Renaming
from cadseg.workers.arrays import BASINS
from cadseg.workers.estimates import crossing_clusters
from cadseg.workers.resolve_down import names_of
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.arrays import Array, Ids, Integers
    from cadseg.blocks import Block
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the tables `joins`, `ends` and `voxels` of the block."""
    config = store.config.segment
    tree = Merges(**store.read_table("merges", block.level, block.cell))
    clusters, voxels = _voxels(block, store)
    smaller = merge_tree.smaller_sides(tree, clusters, voxels)
    holds = smaller < config.min_voxels
    holds |= merge_tree.holding(
        tree,
        threshold=store.scoring.at_least(config.threshold),
        scoring=store.scoring,
    )
    ends = _ends(block, store)
    u, v = (ends.of(key[holds]) for key in (tree.key_u, tree.key_v))
    joins = merge_tree.components(u, v)
    rows = store.read_table("rows", block.level, block.cell, ("u", "v", "key_u", "key_v"))
    frozen = store.read_table("frozen", block.level, block.cell)["fragment"]
    go_up = np.isin(clusters, np.concatenate((rows["u"], rows["v"], frozen)))
    keys = np.unique(np.concatenate((rows["key_u"], rows["key_v"], frozen)))
    out.table("joins", {"fragment": joins.ids, "component": joins.names})
    out.table("ends", {"fragment": keys, "component": joins.of(ends.of(keys))})
    out.table("voxels", {"fragment": clusters[go_up], "voxels": voxels[go_up]})
    return {"small": int((smaller < config.min_voxels).sum())}


def _voxels(block: Block, store: Store) -> tuple[Ids, Integers]:
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


def _ends(block: Block, store: Store) -> Renaming:
    """The components of fragments that keys of the children's rows name.

    A fragment that several children name is frozen in each of them, so it is its own component.
    """
    if block.level == 0:
        return Renaming.empty()
    return Renaming.by_id(*_of_children("ends", block, store))


def _of_children(kind: str, block: Block, store: Store) -> tuple[Ids, Array]:
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
