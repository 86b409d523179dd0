"""One level of the segmentation's pyramid → the next: every second voxel, from the origin on.

A block of the grid's level k covers 2**k blocks' lengths of the volume per axis. In level k of the
pyramid that is one shard, or a row of shards along an axis that is not halved.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Block, Roi, pieces, zyx
from cadseg.workers.arrays import IDS
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.blocks import Zyx
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter

PIECE: Zyx = (16, 256, 256)
"""Voxels of the level below that are read at a time: whole inner chunks, where blocks have them."""


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the level `block.level` of the pyramid."""
    upper, lower = store.pyramid_factors(block.level), store.pyramid_factors(block.level - 1)
    step = zyx(u // n for u, n in zip(upper, lower, strict=True))
    begin, end = (
        zyx(-(-c // f) for c, f in zip(corner, upper, strict=True))
        for corner in (block.cover.begin, block.cover.end)
    )
    for shard in pieces(Roi(begin, end), store.grid.block_shape):
        data = np.empty(shard.shape, np.uint64)
        share = zyx(max(1, n // s) for n, s in zip(PIECE, step, strict=True))
        for piece in pieces(shard, share):
            source = Roi(
                zyx(b * s for b, s in zip(piece.begin, step, strict=True)),
                zyx((e - 1) * s + 1 for e, s in zip(piece.end, step, strict=True)),
            )
            below = store.read(f"segmentation/{block.level - 1}", source)
            data[piece.slices(shard.begin)] = below[:: step[0], :: step[1], :: step[2]]
        out.shards(f"segmentation/{block.level}", shard, data)
    return {}


def cost(work: Work) -> Cost:
    """One shard at a time, however many there are in a block."""
    store, level = work.store, work.step.level
    read, written = (_voxels(store, level - 1), _voxels(store, level))
    shard = min(work.largest, math.prod(store.grid.block_shape))
    shape = zip(store.grid.shape, store.pyramid_factors(level), store.grid.block_shape, strict=True)
    shards = math.prod(-(-n // (factor * length)) for n, factor, length in shape)
    return Cost(memory=20 * shard, read=IDS * read, written=IDS * written, shards=shards)


def _voxels(store: Store, level: int) -> int:
    """Voxels of a level of the pyramid."""
    shape = zip(store.grid.shape, store.pyramid_factors(level), strict=True)
    return math.prod(-(-n // factor) for n, factor in shape)


KIND = StepKind(
    name="pyramid",
    run=run,
    cost=cost,
    reads=("segmentation",),
    writes=("segmentation",),
    on_levels=True,
)
