"""Fragments of a block and its cut → segments, and the rows that describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.merges import relabelled
from cadseg.segments import measured
from cadseg.workers.cut import cut_of
from cadseg.workers.measure import write

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write level 0 of `segmentation`, and the tables `segments` and `parts`, of the block."""
    fragments = store.read("fragments", block.write)
    segments = relabelled(fragments, cut_of(block, store))
    store.write("segmentation/0", block, segments)
    return write(block, store, measured(fragments, segments, block.write.begin, store.grid.shape))
