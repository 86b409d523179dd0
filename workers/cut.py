"""Merges of a block and the cut of the block above → what the clusters of its children become."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.agglomeration import merge_tree
from cadseg.renaming import Renaming
from cadseg.storage.sorting import among, collected
from cadseg.workers import levels
from cadseg.workers.estimates import CLUSTER, crossing_clusters, within_budget
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cadseg.arrays import Ids
    from cadseg.blocks import Block
    from cadseg.storage.scratch import Scratch
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the table `cut`: what of each child's clusters changes, (fragment, segment)."""
    merges = store.rows_of(_joins(store), block.level, block.cell)
    above = 0 if block.level == store.grid.top else levels.handed_down("cut", block, store)[0]
    scratch = levels.scratch_for(store, CLUSTER * (merges + above))
    segments = cut_of(block, store, scratch)
    table = {"fragment": segments.ids, "segment": segments.names}
    tables = (
        among(table, "fragment", _known(child, store), scratch)
        for child in levels.children(block, store)
    )
    return {"fragments": levels.hand_down(out, "cut", ("fragment", "segment"), tables)}


def _joins(store: Store) -> str:
    """The table that says which clusters join."""
    return "joins" if store.config.segment.min_voxels else "merges"


def cut_of(block: Block, store: Store, scratch: Scratch) -> Renaming:
    """The segments that the clusters of a block become."""
    kind = _joins(store)
    size = store.rows_of(kind, block.level, block.cell)
    if kind == "joins":
        columns = ("fragment", "component")
        rows = store.parts_of(kind, block.level, block.cell, columns)
        joins = Renaming(*collected(rows, columns, size, scratch).values())
    else:
        scored = ("fragment", "parent", "sum", "count")
        rows = store.parts_of(kind, block.level, block.cell, scored)
        threshold = store.scoring.at_least(store.config.segment.threshold)
        joins = merge_tree.cut(
            rows, size, threshold=threshold, scoring=store.scoring, scratch=scratch
        )
    if block.level == store.grid.top:
        return joins
    size, rows = levels.handed_down("cut", block, store)
    above = Renaming(*collected(rows, ("fragment", "segment"), size, scratch).values())
    return merge_tree.then(joins, above, scratch)


def _known(child: Block, store: Store) -> Iterator[Ids]:
    """Clusters that a child has handed up, part by part."""
    tables = {"rows": ("u", "v"), "frozen": ("fragment",)}
    if store.config.segment.min_voxels:
        tables = {"ends": ("component",)}
    for kind, columns in tables.items():
        for part in store.parts_of(kind, child.level, child.cell, columns):
            yield from part.values()


def cost(work: Work) -> Cost:
    """Tables alone."""
    return Cost(memory=within_budget(work, CLUSTER * crossing_clusters(work)))


KIND = StepKind(
    name="cut",
    run=run,
    cost=cost,
    reads_tables=("merges", "rows", "frozen", "joins", "ends", "cut", "cut_begins"),
    tables=("cut", "cut_begins"),
    on_levels=True,
)
