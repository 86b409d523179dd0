"""Fragments of a block and its cut → segments, and how many voxels each has here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.merges import relabelled, sizes
from cadseg.workers.cut import cut_of

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write level 0 of `segmentation`, and the table `sizes`, of the block."""
    fragments = store.read("fragments", block.write)
    segments = relabelled(fragments, cut_of(block, store))
    store.write("segmentation/0", block, segments)
    segment, voxels = sizes(segments)
    store.write_table("sizes", block, {"segment": segment, "voxels": voxels})
    return {"segments": segment.size}
