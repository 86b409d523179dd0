"""Exits of a block, and where those of the block above finally lead → where its own do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.fragments import climb
from cadseg.renaming import Renaming
from cadseg.workers.estimates import crossing_paths
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.arrays import Ids
    from cadseg.blocks import Block
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the table `roots`: (exit, root) for every path that leaves the block."""
    roots = roots_of(block, store)
    out.table("roots", {"exit": roots.ids, "root": roots.names})
    return {"exits": roots.ids.size}


def roots_of(block: Block, store: Store) -> Renaming:
    """The final tops of all paths that leave the block, from the tables of the block above."""
    shape = store.grid.shape
    ends = store.read_table("exits", block.level, block.cell)["top"]
    exits = np.unique(ends[~climb.within(ends, block.write, shape)])
    if block.level == store.grid.top:
        return Renaming(exits, exits)
    level, parent = block.level + 1, store.grid.parent(block.cell)
    table = store.read_table("exits", level, parent)
    roots = Renaming(table["exit"], table["top"]).of(exits)
    if level < store.grid.top:
        table = store.read_table("roots", level, parent)
        roots = Renaming(table["exit"], table["root"]).of(roots)
    return Renaming(exits, roots)


def names_of(block: Block, store: Store) -> Ids:
    """The fragment that each number of the block's `basins` stands for; 0 for 0."""
    ids = store.read_table("basins", block.level, block.cell)["id"]
    return np.append(np.uint64(0), roots_of(block, store).of(ids))


def cost(work: Work) -> Cost:
    """Tables alone."""
    return Cost(memory=crossing_paths(work))


KIND = StepKind(
    name="resolve_down",
    run=run,
    cost=cost,
    reads_tables=("exits", "roots"),
    tables=("roots",),
    on_levels=True,
)
