"""Basins of a block → fragments: paths that leave the block get their final top."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg import fragments
from cadseg.workers.settle import roots_of

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write `fragments` of the block."""
    ids = store.read_table("basins", block.level, block.cell)["id"]
    exits, roots = roots_of(block, store)
    names = np.append(np.uint64(0), fragments.lookup(ids, exits, roots))
    store.write("fragments", block, names[store.read("basins", block.write)])
    return {"exits": exits.size}
