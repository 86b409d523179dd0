"""Exits and entries of a block's children → its own, with the paths between children followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.fragments import climb
from cadseg.renaming import Renaming
from cadseg.workers.estimates import crossing_paths
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the tables `exits` (where each child's exits lead) and `entries` of the block."""
    shape, domain = store.grid.shape, store.grid.domain
    entries, tops, exits = [], [], []
    for cell in store.grid.children(block.level, block.cell):
        child = store.grid.block(block.level - 1, cell)
        table = store.read_table("entries", child.level, cell)
        entries.append(table["entry"])
        tops.append(table["top"])
        left = store.read_table("exits", child.level, cell)["top"]
        exits.append(left[~climb.within(left, child.write, shape)])
    ends = Renaming.by_id(np.concatenate(entries), np.concatenate(tops)).followed()
    leaving = np.unique(np.concatenate(exits))
    outer = ends.ids[climb.on_faces(ends.ids, block.write, domain, shape)]
    out.table("exits", {"exit": leaving, "top": ends.of(leaving)})
    out.table("entries", {"entry": outer, "top": ends.of(outer)})
    return {"exits": leaving.size, "entries": outer.size}


def cost(work: Work) -> Cost:
    """Tables alone."""
    return Cost(memory=crossing_paths(work))


KIND = StepKind(
    name="resolve_up",
    run=run,
    cost=cost,
    reads_tables=("exits", "entries"),
    tables=("exits", "entries"),
    on_levels=True,
)
