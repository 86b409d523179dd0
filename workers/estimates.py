"""What several kinds of steps need, as `plan` reckons it: rows of tables, and chunks of the input.

How many rows a table has depends on what the volume shows, so these are estimates from measured
volumes, on the safe side. SNEMI3D: 0.0043 edges per voxel; with four times as many fragments, 0.31
entries and 0.65 merges above level 0 per voxel of the faces between blocks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cadseg.agglomeration.agglomerate import memory_for

if TYPE_CHECKING:
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store

EDGES = 0.02
"""Edges per voxel: 0.0195 in FIB-25 climbed in sections, 0.0108 in SNEMI3D."""

FRAGMENTS = 0.01
"""Fragments per voxel: 0.0017 in SNEMI3D."""

ENTRIES = 0.5
"""Paths that cross a face between blocks, per voxel of a face along the climb."""

CROSSING = 1.0
"""Clusters that blocks hand up, per voxel of a y or x face."""

CROSSING_SECTIONS = 0.02
"""The same per voxel of a z face, which cuts whole fragments."""

ENTRY, EXIT = 16, 8
"""Bytes per row of entries, or exits, where paths between children are followed."""

CLUSTER = 34
"""Bytes per cluster that changes where a block's cut is made."""

MEMBER, MERGE = 25, 80
"""Bytes per row that children hand up, and per merge of the block, where small segments join."""

AT_ONCE = 200_000_000
"""Bytes, at most, of parts of tables that an upper level has in work beside its arrays.

`tests/benchmarks/upper_levels.py`: an idle worker and these took at most 410 MB, of which 60 idle.
"""

DECODED_AT_ONCE = 10
"""Chunks of the input in memory while it is read: zarr's ``async.concurrency``, each twice."""


def edges(work: Work) -> int:
    """Bytes of the edges of a block while they are agglomerated."""
    rows = round(EDGES * work.largest)
    return memory_for(rows, rows if work.store.scoring.method.HISTOGRAMS else 0)


def crossing_clusters(work: Work) -> int:
    """Clusters that cross the faces of a block's children."""
    sides, sections = _faces(work)
    return round(CROSSING * sides + CROSSING_SECTIONS * sections)


def crossing_paths(work: Work) -> int:
    """Paths that cross the faces of a block's children."""
    sides, sections = _faces(work)
    faces = sides + (sections if work.store.config.fragments.dimensions == 3 else 0)
    return round(ENTRIES * faces)


def within_budget(work: Work, need: int) -> int:
    """Bytes of a step above level 0 whose arrays would need so many: beyond the budget, files."""
    return AT_ONCE + min(need, round(work.store.config.agglomerate.memory_gb * 1e9))


def decoding(store: Store) -> int:
    """Bytes of the input's chunks while some of them are decoded."""
    return 2 * DECODED_AT_ONCE * math.prod(store.raw.chunks) * store.raw.dtype.itemsize


def _faces(work: Work) -> tuple[int, int]:
    """Voxels of the y and x faces of a block's children, and of their z faces."""
    nz, ny, nx = work.lengths
    return 4 * nz * (ny + nx), 4 * ny * nx
