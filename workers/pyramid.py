"""One level of the segmentation's pyramid → the next: every second voxel, from the origin on.

A block of the grid's level k covers 2**k blocks' lengths of the volume per axis. In level k of the
pyramid that is one shard, or a row of shards along z where z is not halved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.blocks import Block, Roi, zyx

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
    name = f"segmentation/{block.level - 1}"
    shard = store.grid.block_shape[0]
    for z in range(begin[0], end[0], shard):
        slab = Roi((z, *begin[1:]), (min(z + shard, end[0]), *end[1:]))
        source = Roi(
            zyx(b * s for b, s in zip(slab.begin, step, strict=True)),
            zyx((e - 1) * s + 1 for e, s in zip(slab.end, step, strict=True)),
        )
        data = store.read(name, source)[:: step[0], :: step[1], :: step[2]]
        store.write_roi(f"segmentation/{block.level}", slab, data)
    return {}
