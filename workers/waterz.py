"""The alternative engine: affinities and contacts of a block, or what its children left → a forest.

The forest of all goes into `merges` of the block that holds everything; those below have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration import waterz
from cadseg.agglomeration.agglomerate import Merges
from cadseg.agglomeration.waterz import Contacts
from cadseg.graph.edges import Edges
from cadseg.storage.scratch import Scratch
from cadseg.workers.agglomerate import frozen_in
from cadseg.workers.arrays import AFFINITIES, IDS
from cadseg.workers.estimates import EDGES, FRAGMENTS
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the tables `merges`, `rows` and `frozen` of the block."""
    parts = _parts(block, store)
    forest = waterz.forest(parts, store.scoring)
    nothing = Merges(*(np.empty(0, np.uint64) for _ in range(6)))
    at_top = block.level == store.grid.top
    merges, left = (forest, nothing) if at_top else (nothing, forest)
    rows = {"u": left.key_u, "v": left.key_v, "sum": left.sum, "count": left.count}
    rows |= {"key_u": left.key_u, "key_v": left.key_v}
    out.table("merges", vars(merges))
    out.table("rows", rows)
    out.table("frozen", vars(frozen_in(block, store, Scratch())))
    edges = sum(part.u.size for part in parts)
    return {"edges": edges, "merges": merges.fragment.size, "left": left.fragment.size}


def _parts(block: Block, store: Store) -> list[Contacts]:
    """The block's own contacts, or the forests of its children."""
    if block.level == 0:
        return [_contacts(block, store)]
    return [
        Contacts(**store.read_table("rows", block.level - 1, cell, ("u", "v", "sum", "count")))
        for cell in store.grid.children(block.level, block.cell)
    ]


def _contacts(block: Block, store: Store) -> Contacts:
    scoring = store.scoring
    return waterz.agglomerate(
        store.read_affinities(block.read),
        store.read("fragments", block.read),
        Edges(**store.read_table("edges", 0, block.cell)),
        scoring=scoring,
        floor=scoring.at_least(store.config.agglomerate.min_affinity),
    )


FIXED, PER_VOXEL, PER_HISTOGRAM = 25_000_000, 70, 2300
"""Bytes of waterz beside its data, per voxel that level 0 reads, and per edge with the median.

Measured per voxel read, in blocks of 0.4 to 2.5 Mvoxel with one edge in 50 voxels (`FIXED` apart):
27 to 55 with the mean, 77 to 107 with the median; in one block of 23.6 Mvoxel of SNEMI3D 46 and 65.
"""

PER_FRAGMENT = 300
"""Bytes per fragment while the forests of a block's children are joined: an allowance."""


def cost(work: Work) -> Cost:
    """Level 0 holds floats and waterz's own copies; above it a forest has a row per fragment."""
    if work.step.level:
        return Cost(memory=PER_FRAGMENT * round(FRAGMENTS * work.largest))
    per_voxel: float = PER_VOXEL
    if "Histogram" in work.store.scoring.method.WATERZ:
        per_voxel += PER_HISTOGRAM * EDGES
    read = (AFFINITIES + IDS) * work.voxels_read
    return Cost(memory=FIXED + round(per_voxel * work.largest_read), read=read)


KIND = StepKind(
    name="waterz",
    run=run,
    cost=cost,
    reads=("affinities", "fragments"),
    reads_tables=("edges", "faces", "rows", "frozen"),
    tables=("merges", "rows", "frozen"),
    on_levels=True,
)
