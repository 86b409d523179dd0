"""Where a block's exits finally lead, once the blocks above it are settled: down the levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg import renaming
from cadseg.fragments import climb
from cadseg.workers.estimates import crossing_paths
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.fragments.climb import Ids
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write the table `roots`: (exit, root) for every path that leaves the block."""
    exits, roots = roots_of(block, store)
    store.write_table("roots", block, {"exit": exits, "root": roots})
    return {"exits": exits.size}


def roots_of(block: Block, store: Store) -> tuple[Ids, Ids]:
    """The final tops of all paths that leave the block, from the tables of the block above."""
    shape = store.grid.shape
    ends = store.read_table("exits", block.level, block.cell)["top"]
    exits = np.unique(ends[~climb.within(ends, block.write, shape)])
    if block.level == store.grid.top:
        return exits, exits
    level, parent = block.level + 1, store.grid.parent(block.cell)
    table = store.read_table("exits", level, parent)
    roots = renaming.lookup(exits, table["exit"], table["top"])
    if level < store.grid.top:
        table = store.read_table("roots", level, parent)
        roots = renaming.lookup(roots, table["exit"], table["root"])
    return exits, roots


def names_of(block: Block, store: Store) -> Ids:
    """The fragment that each number of the block's `basins` stands for; 0 for 0."""
    ids = store.read_table("basins", block.level, block.cell)["id"]
    return np.append(np.uint64(0), renaming.lookup(ids, *roots_of(block, store)))


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
