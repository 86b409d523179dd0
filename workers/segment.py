"""Basins of a block and its cut → segments, and the rows that describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.agglomeration.segment_table import measured
from cadseg.storage.scratch import Scratch
from cadseg.workers import cut
from cadseg.workers.arrays import BASINS, IDS
from cadseg.workers.resolve_down import names_of
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write level 0 of `segmentation`, and the table `parts`, of the block."""
    fragments = names_of(block, store)
    segments = cut.cut_of(block, store, Scratch()).of(fragments)
    numbers = store.read("basins", block.write)
    out.array("segmentation/0", numbers, segments)
    rows = measured(numbers, fragments, segments, block.write, store.grid.shape)
    out.table("parts", rows)
    return {"parts": rows["segment"].size}


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
    reads_tables=(
        *("basins", "exits", "roots", "roots_begins"),
        *("merges", "joins", "cut", "cut_begins"),
    ),
    tables=("parts",),
)
