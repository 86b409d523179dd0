"""Affinities of a block and its halo → basins, and the contacts of the basins inside the block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import open_sides
from cadseg.fragments import climb, heights
from cadseg.graph.edges import pairs_inside
from cadseg.workers import predict
from cadseg.workers.arrays import AFFINITIES, BASINS
from cadseg.workers.estimates import decoding
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.arrays import Array
    from cadseg.blocks import Block
    from cadseg.fragments.climb import Climb
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write `basins` of the block, and its tables `basins`, `exits`, `entries`, `pairs`, `rim`."""
    affinities = _affinities(block, store, out)
    climb = _climb(affinities, block, store)
    own = affinities[(slice(None), *block.write.slices(block.read.begin))]
    pairs = pairs_inside(own, climb.labels)
    out.array("basins", climb.labels)
    out.table("basins", {"id": climb.ids})
    out.table("exits", {"exit": climb.exits})
    out.table("entries", {"entry": climb.entries, "top": climb.entry_labels})
    out.table("pairs", vars(pairs))
    out.table("rim", {"affinity": rim(own, block, store)})
    masked = int(climb.labels.size - np.count_nonzero(climb.labels))
    return {"exits": climb.exits.size, "entries": climb.entries.size, "masked": masked}


def _affinities(block: Block, store: Store, out: BlockWriter) -> Array:
    if not store.fused:
        return store.read_affinities(block.read)
    return predict.predicted(block.read, store, out.checkpoint)[0]


def _climb(affinities: Array, block: Block, store: Store) -> Climb:
    config = store.config.fragments
    begins = zip(block.read.begin, store.grid.domain.begin, strict=True)
    field = heights.heights(
        affinities[-config.dimensions :],
        distance_clip=config.distance_clip,
        sigma=config.sigma,
        boundary_weight=config.boundary_weight,
        first=tuple(read == domain for read, domain in begins)[-config.dimensions :],
    )
    mask = None if store.mask is None else store.mask.read(block.read) != 0
    return climb.climb(
        field, block.read, block.write, store.grid.shape, mask, dimensions=config.dimensions
    )


def rim(affinities: Array, block: Block, store: Store) -> Array:
    """Affinities across the block's open lower faces, z y x, one after the other."""
    planes = [np.empty(0, affinities.dtype)]
    for axis, side in open_sides(block.write, store.grid.domain):
        if side == 0:
            planes.append(affinities[axis].take(0, axis).ravel())
    return np.concatenate(planes)


def cost(work: Work) -> Cost:
    """Climbing; where affinities are not kept, predicting them as well."""
    store, memory = work.store, 12 * (work.largest_read + work.largest)
    read = AFFINITIES * work.voxels_read
    if store.fused:
        network = predict.cost(work)
        memory, read = memory + network.memory, network.read
    elif store.manifest.source == "affinities":
        memory += decoding(store)
    written = BASINS * work.voxels
    return Cost(memory=memory, read=read, written=written, shards=work.blocks)


KIND = StepKind(
    name="climb",
    run=run,
    cost=cost,
    reads=("affinities",),
    writes=("basins",),
    tables=("basins", "exits", "entries", "pairs", "rim"),
)
