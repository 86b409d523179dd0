"""Merges of a block and the cut of the block above → what the block's clusters become."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration import merge_tree, scores
from cadseg.agglomeration.agglomerate import Merges
from cadseg.workers.estimates import crossing_clusters
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.fragments.climb import Ids
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write the table `cut`: (fragment, segment) for the clusters that the children know."""
    fragment, segment = cut_of(block, store)
    store.write_table("cut", block, {"fragment": fragment, "segment": segment})
    return {"fragments": fragment.size}


def cut_of(block: Block, store: Store) -> tuple[Ids, Ids]:
    """Sorted (fragment, segment) of the clusters of a block that end in another."""
    if store.config.segment.min_voxels:
        joins = store.read_table("joins", block.level, block.cell)
        known = store.read_table("ends", block.level, block.cell)["component"]
        above = _above(block, store, known)
        return merge_tree.completed((joins["fragment"], joins["component"]), above)
    rows = store.read_table("rows", block.level, block.cell, ("u", "v"))
    frozen = store.read_table("frozen", block.level, block.cell)["fragment"]
    return merge_tree.cut(
        Merges(**store.read_table("merges", block.level, block.cell)),
        _above(block, store, np.concatenate((rows["u"], rows["v"], frozen))),
        threshold=scores.at_least(store.config.segment.threshold, store.affinity_dtype),
        half=scores.half_bits(store.affinity_dtype),
    )


def _above(block: Block, store: Store, known: Ids) -> tuple[Ids, Ids]:
    """The cut of the block above, as far as it concerns clusters that this block handed up."""
    if block.level == store.grid.top:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    table = store.read_table("cut", block.level + 1, store.grid.parent(block.cell))
    ours = np.isin(table["fragment"], known)
    return table["fragment"][ours], table["segment"][ours]


def cost(work: Work) -> Cost:
    """Tables alone."""
    return Cost(memory=crossing_clusters(work))


KIND = StepKind(
    name="cut",
    run=run,
    cost=cost,
    reads_tables=("merges", "rows", "frozen", "joins", "ends", "cut"),
    tables=("cut",),
    on_levels=True,
)
