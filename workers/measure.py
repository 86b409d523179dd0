"""Rows of segments in a block's children → those that are complete in the block, and the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.agglomeration import segment_table
from cadseg.storage.sorting import aligned, length, regrouped
from cadseg.workers import levels
from cadseg.workers.estimates import within_budget
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cadseg.blocks import Block
    from cadseg.storage.columns import Table
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write complete rows as `segments`, those that go up a level as `parts`."""
    nothing = segment_table.empty()
    out.table("parts", nothing)
    counts = dict.fromkeys(("segments", "largest", "largest_voxels"), 0)
    for part in regrouped(_complete(block, store, out)):
        out.table("segments", part)
        counts["segments"] += length(part)
        place = part["voxels"].argmax()
        if part["voxels"][place] > counts["largest_voxels"]:
            counts["largest"] = int(part["segment"][place])
            counts["largest_voxels"] = int(part["voxels"][place])
    if not counts["segments"]:
        out.table("segments", nothing)
    return counts


def _complete(block: Block, store: Store, out: BlockWriter) -> Iterator[Table]:
    """Rows that are complete; the others are written."""
    for some in aligned(levels.of_children("parts", block, store), "segment"):
        rows = segment_table.joined(some)
        complete = segment_table.complete(rows, block.write, store.grid.domain)
        if complete.all():
            yield rows
            continue
        out.table("parts", {name: column[~complete] for name, column in rows.items()})
        yield {name: column[complete] for name, column in rows.items()}


def cost(work: Work) -> Cost:
    """No more than some parts of tables."""
    return Cost(memory=within_budget(work, 0))


KIND = StepKind(
    name="measure",
    run=run,
    cost=cost,
    reads_tables=("parts",),
    tables=("segments", "parts"),
    on_levels=True,
)
