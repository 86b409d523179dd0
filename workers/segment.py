"""Basins of a block and its cut → segments, and the rows that describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.agglomeration.segment_table import measured
from cadseg.workers import cut
from cadseg.workers.arrays import BASINS, IDS
from cadseg.workers.measure import write
from cadseg.workers.resolve_down import names_of
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write level 0 of `segmentation`, and the tables `segments` and `parts`, of the block."""
    fragments = names_of(block, store)
    segments = cut.cut_of(block, store).of(fragments)
    numbers = store.read("basins", block.write)
    out.array("segmentation/0", numbers, segments)
    rows = measured(numbers, fragments, segments, block.write, store.grid.shape)
    return write(block, store, out, rows)


def cost(work: Work) -> Cost:
    """Numbers in, ids out, chunk by chunk."""
    return Cost(
        memory=11 * work.largest,
        read=BASINS * work.voxels,
        written=IDS * work.voxels,
        shards=work.blocks,
    )


KIND = StepKind(
    name="segment",
    run=run,
    cost=cost,
    reads=("basins",),
    writes=("segmentation",),
    reads_tables=("basins", "exits", "roots", *cut.KIND.reads_tables),
    tables=("segments", "parts"),
)
