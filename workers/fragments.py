"""Basins of a block → fragments: paths that leave the block get their final top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.workers.resolve_down import names_of

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write `fragments` of the block."""
    names = names_of(block, store)
    store.write("fragments", block, store.read("basins", block.write), names)
    return {"basins": names.size - 1}
