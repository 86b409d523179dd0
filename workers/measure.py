"""Rows of segments that the children could not complete → rows that this one can, and the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.agglomeration import segment_table
from cadseg.workers.estimates import crossing_clusters
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.storage.columns import Table
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the tables `segments` and `parts` of the block."""
    children = store.grid.children(block.level, block.cell)
    parts = [store.read_table("parts", block.level - 1, cell) for cell in children]
    return write(block, store, out, segment_table.joined(parts))


def write(block: Block, store: Store, out: BlockWriter, rows: Table) -> dict[str, int]:
    """Write complete rows as `segments`, those that go up a level as `parts`."""
    complete = segment_table.complete(rows, block.write, store.grid.domain)
    for kind, some in (("segments", complete), ("parts", ~complete)):
        out.table(kind, {name: column[some] for name, column in rows.items()})
    found = {name: column[complete] for name, column in rows.items()}
    counts = {"segments": int(complete.sum()), "largest": 0, "largest_voxels": 0}
    if counts["segments"]:
        place = found["voxels"].argmax()
        counts["largest"] = int(found["segment"][place])
        counts["largest_voxels"] = int(found["voxels"][place])
    return counts


def cost(work: Work) -> Cost:
    """Tables alone."""
    return Cost(memory=crossing_clusters(work))


KIND = StepKind(
    name="measure",
    run=run,
    cost=cost,
    reads_tables=("parts",),
    tables=("segments", "parts"),
    on_levels=True,
)
