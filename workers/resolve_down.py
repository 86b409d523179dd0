"""Final tops of the paths that leave a block → of those that leave its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.renaming import Renaming
from cadseg.storage.scratch import Scratch
from cadseg.storage.sorting import collected
from cadseg.workers import levels
from cadseg.workers.estimates import ENTRY, crossing_paths, within_budget
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cadseg.arrays import Ids
    from cadseg.blocks import Block
    from cadseg.storage.columns import Table
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the table `roots`: the final top of each path that leaves a child, by child."""
    size = store.rows_of("exits", block.level, block.cell)
    roots = roots_of(block, store, levels.scratch_for(store, ENTRY * size))
    return {"exits": levels.hand_down(out, "roots", ("root",), _roots(block, store, roots))}


def roots_of(block: Block, store: Store, scratch: Scratch) -> Renaming:
    """The final tops of all paths that leave the block, which its parent has written for it."""
    if block.level == store.grid.top:
        return Renaming.empty()
    size, rows = levels.handed_down("roots", block, store)
    exits = store.parts_of("exits", block.level, block.cell)
    ids = collected(exits, ("exit",), size, scratch)["exit"]
    return Renaming(ids, collected(rows, ("root",), size, scratch)["root"])


def _roots(block: Block, store: Store, roots: Renaming) -> Iterator[Iterable[Table]]:
    """For each child, where its exits finally lead."""
    for child in levels.children(block, store):
        _, rows = levels.handed_down("tops", child, store)
        yield ({"root": roots.of(part["top"])} for part in rows)


def names_of(block: Block, store: Store) -> Ids:
    """The fragment that each number of the block's `basins` stands for; 0 for 0."""
    ids = store.read_table("basins", block.level, block.cell)["id"]
    return np.append(np.uint64(0), roots_of(block, store, Scratch()).of(ids))


def cost(work: Work) -> Cost:
    """Tables alone."""
    return Cost(memory=within_budget(work, ENTRY * crossing_paths(work)))


KIND = StepKind(
    name="resolve_down",
    run=run,
    cost=cost,
    reads_tables=("exits", "tops", "tops_begins", "roots", "roots_begins"),
    tables=("roots", "roots_begins"),
    on_levels=True,
)
