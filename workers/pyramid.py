"""One level of the segmentation's pyramid → the next: every second voxel, from the origin on.

A block of the grid's level k covers 2**k blocks' lengths of the volume per axis. In level k of the
pyramid that is one shard, or a row of shards along an axis that is not halved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Block, Roi, pieces, zyx

if TYPE_CHECKING:
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write the level `block.level` of the pyramid."""
    upper, lower = store.pyramid_factors(block.level), store.pyramid_factors(block.level - 1)
    step = zyx(u // n for u, n in zip(upper, lower, strict=True))
    begin, end = (
        zyx(-(-c // f) for c, f in zip(corner, upper, strict=True))
        for corner in (block.cover.begin, block.cover.end)
    )
    for shard in pieces(Roi(begin, end), store.grid.block_shape):
        data = np.empty(shard.shape, np.uint64)
        # voxels of one shard of the level below at a time
        share = zyx(max(1, n // s) for n, s in zip(store.grid.block_shape, step, strict=True))
        for piece in pieces(shard, share):
            source = Roi(
                zyx(b * s for b, s in zip(piece.begin, step, strict=True)),
                zyx((e - 1) * s + 1 for e, s in zip(piece.end, step, strict=True)),
            )
            lower_data = store.read(f"segmentation/{block.level - 1}", source)
            data[piece.slices(shard.begin)] = lower_data[:: step[0], :: step[1], :: step[2]]
            del lower_data  # before the next one is read
        store.write_roi(f"segmentation/{block.level}", shard, data)
    return {}
