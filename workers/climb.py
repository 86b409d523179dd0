"""Affinities of a block and its halo → voxels labelled with their top, or where they leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg import fragments, heights

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write `basins` of the block, and its tables `basins`, `exits` and `entries`."""
    config = store.config.fragments
    affinities = store.read_affinities(block.read)
    domain = store.grid.domain
    field = heights.heights(
        affinities[1:],
        distance_clip=config.distance_clip,
        sigma=config.sigma,
        boundary_weight=config.boundary_weight,
        first=(
            block.read.begin[1] == domain.begin[1],
            block.read.begin[2] == domain.begin[2],
        ),
    )
    mask = None if store.mask is None else store.mask.read(block.read) != 0
    climb = fragments.climb(field, block.read, block.write, store.grid.shape, mask)
    store.write("basins", block, climb.labels)
    store.write_table("basins", block, {"id": climb.ids})
    store.write_table("exits", block, {"exit": climb.exits, "top": climb.exits})
    store.write_table("entries", block, {"entry": climb.entries, "top": climb.entry_labels})
    return {"exits": climb.exits.size, "entries": climb.entries.size, "masked": _zeros(climb)}


def _zeros(climb: fragments.Climb) -> int:
    return int(climb.labels.size - np.count_nonzero(climb.labels))
