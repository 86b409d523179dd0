"""Basins of a block → fragments: paths that leave the block get their final top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.workers.arrays import BASINS, IDS
from cadseg.workers.resolve_down import names_of
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write `fragments` of the block."""
    names = names_of(block, store)
    out.array("fragments", store.read("basins", block.write), names)
    return {"basins": names.size - 1}


def cost(work: Work) -> Cost:
    """Numbers in, ids out, chunk by chunk."""
    return Cost(
        memory=9 * work.largest,
        read=BASINS * work.voxels,
        written=IDS * work.voxels,
        shards=work.blocks,
    )


KIND = StepKind(
    name="fragments",
    run=run,
    cost=cost,
    reads=("basins",),
    writes=("fragments",),
    reads_tables=("basins", "exits", "roots", "roots_begins"),
)
