"""What a run would take, before it starts: blocks, bytes, files and memory, as plain data.

It follows from the grid and the config; no voxel is read and nothing is written. Numbers of bytes
that depend on what the volume shows (rows of tables, sizes of compressed files) are estimates from
measured volumes, on the safe side; arrays are exact.

Memory is the peak resident set of one worker process, without files that it has mapped, which the
system takes back when it needs to.
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.blocks import Zyx, zyx
from cadseg.pipeline.stages import steps_of

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.pipeline.prepare import Job
    from cadseg.workers.process import Step
    from cadseg.workers.store import Store

# Memory. Peak resident set of a worker that goes through many blocks of 48 x 1024 x 1024 voxels of
# SNEMI3D and keeps the memory of one for the next, in MB (`versus.py`, 1007 and 252 Mvoxel): climb
# 1365, pyramid 1228, segment 660, fragments 608, agglomerate 447, edges 365. The numbers here lie
# above these, and above one block of 8 x 32 x 32 voxels.
IDLE = 400_000_000
"""Bytes of a worker with all its code, without a block: 152 MB idle, up to 300 at 8 x 32 x 32."""

NETWORK = 150_000_000
"""More with torch and the student's weights: 128 MB (linux, torch 2.13 for CPUs)."""

CUDA = 4_000_000_000
"""More with CUDA: an allowance, not measured."""

PER_VOXEL = {  # bytes per voxel read, and per voxel written
    "predict": (0, 4),
    "climb": (12, 12),
    "fragments": (0, 9),
    "edges": (0, 7),
    "segment": (0, 11),
    "absorb_small": (0, 11),
    "pyramid": (0, 20),
}

PER_ROW = 300
"""Bytes per row in agglomeration: 240 at 880 thousand rows, two bins each included."""

PER_ENTRY = 200
"""Bytes per row where exits and cuts of blocks are joined."""

DECODED_AT_ONCE = 10
"""Chunks of the input in memory while it is read: zarr's ``async.concurrency``, each twice."""

# Rows. SNEMI3D: 0.0043 edges per voxel; with four times as many fragments, 0.31 entries and 0.65
# merges above level 0 per voxel of the faces between blocks.
EDGES = 0.02
"""Edges per voxel."""

ENTRIES = 0.5
"""Paths that cross a face between blocks, per voxel of a face along the climb."""

CROSSING = 1.0
"""Clusters that blocks hand up, per voxel of a y or x face."""

CROSSING_SECTIONS = 0.02
"""The same per voxel of a z face, which cuts whole fragments."""

# Disk. Bytes per voxel after compression; measured on 95 Mvoxel of SNEMI3D: affinities 2.05, basins
# 0.25, fragments 0.31, segmentation 0.25, all tables 0.18.
COMPRESSED = {"affinities": 2.3, "basins": 0.4, "fragments": 0.5, "segmentation": 0.4}
TABLES = 0.4
TABLE_BYTES = 150
"""Bytes per edge in all tables, if nothing compresses."""

ID_BYTES, NUMBER_BYTES = 8, 4
RECORD_BYTES = 4096
"""One record, on a file system with pages of that size."""

TABLE_COUNTS = {
    "climb": 5,
    "resolve_up": 2,
    "resolve_down": 1,
    "edges": 2,
    "agglomerate": 4,
    "cut": 1,
    "segment": 2,
    "measure": 2,
    "absorb_small": 3,
}


@dataclass(frozen=True)
class StepPlan:
    """One step of a run.

    Attributes:
        name: of the step.
        blocks: how many.
        voxels: that the largest of them writes.
        read: bytes of arrays that all of them read, halos included, before compression.
        written: bytes of arrays that all of them write, before compression.
        memory: bytes that a worker has at most.
    """

    name: str
    blocks: int
    voxels: int
    read: int
    written: int
    memory: int


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        out: its folder.
        workers: processes that compute at the same time.
        steps: in their order.
        disk: bytes of the folder at the end, estimated from measured compression.
        disk_limit: the same if nothing compresses.
        disk_free: bytes free where the folder will lie.
        files: in the folder at the end.
        ram: bytes of memory that this machine has.
    """

    out: Path
    workers: int
    steps: tuple[StepPlan, ...]
    disk: int
    disk_limit: int
    disk_free: int
    files: int
    ram: int

    @property
    def memory(self) -> int:
        """Peak memory of a worker, in bytes."""
        return max(step.memory for step in self.steps)

    @property
    def advice(self) -> tuple[str, ...]:
        """A sentence for each thing that does not fit."""
        lines = []
        fitting = self.ram // self.memory
        if fitting == 0:
            lines.append("one worker needs more memory than there is: make block_shape smaller")
        elif self.workers > fitting:
            lines.append(f"so many workers need more memory than there is: use --workers {fitting}")
        if self.disk > self.disk_free:
            lines.append("the disk is too small: choose another with --out")
        return tuple(lines)


def plan(job: Job, workers: int = 1) -> Plan:
    """What the run `job` would take, from its beginning, with so many workers."""
    store = job.store
    steps = steps_of(store, job.until)
    planned = tuple(_step_plan(store, step) for step in steps)
    there = next(p for p in (job.out.absolute(), *job.out.absolute().parents) if p.exists())
    blocks, voxels = sum(step.blocks for step in planned), store.grid.domain.size
    tables = voxels if any(step.stage == "edges" for step in steps) else 0
    compressed = sum(_compressed(store, s, p) for s, p in zip(steps, planned, strict=True))
    return Plan(
        out=job.out,
        workers=workers,
        steps=planned,
        disk=round(compressed + TABLES * tables) + RECORD_BYTES * blocks,
        disk_limit=sum(step.written for step in planned)
        + round(EDGES * TABLE_BYTES * tables)
        + RECORD_BYTES * blocks,
        disk_free=shutil.disk_usage(there).free,
        files=sum(_files(store, s) for s in steps),
        ram=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def _step_plan(store: Store, step: Step) -> StepPlan:
    read, written = _moved(store, step)
    largest, _ = _voxels(store, step, (0, 0, 0))
    return StepPlan(
        name=step.name,
        blocks=store.grid.count(step.level),
        voxels=largest,
        read=read,
        written=written,
        memory=_memory(store, step),
    )


def _voxels(store: Store, step: Step, halo: Zyx) -> tuple[int, int]:
    """Voxels of the largest block with its halo, and of all blocks together."""
    grid = store.grid
    begin, end = grid.span(step.level)
    largest, total = 1, 1
    for axis in range(3):
        cells = ([*begin] for _ in range(begin[axis], end[axis]))
        lengths = []
        for place, cell in enumerate(cells, begin[axis]):
            cell[axis] = place
            lengths.append(grid.block(step.level, zyx(cell), halo).read.shape[axis])
        largest *= max(lengths)
        total *= sum(lengths)
    return largest, total


def _moved(store: Store, step: Step) -> tuple[int, int]:
    """Bytes of arrays that all blocks of a step read, and write."""
    item = store.affinity_dtype.itemsize * 3
    _, read = _voxels(store, step, step.halo)
    _, written = _voxels(store, step, (0, 0, 0))
    kind = step.name.partition("-")[0]
    if kind == "predict":
        return _windows(store), written * item
    if kind == "climb":
        return _windows(store) if store.fused else read * item, written * NUMBER_BYTES
    if kind == "edges":  # the planes on both sides of each face, one of them by both blocks
        return (read - written) * NUMBER_BYTES * 3 // 2, 0
    if kind == "absorb_small":
        return 0 if step.level else written * NUMBER_BYTES, 0
    if kind in ("fragments", "segment"):
        return written * NUMBER_BYTES, written * ID_BYTES
    if kind == "pyramid":
        above, below = (
            math.prod(
                -(-n // f) for n, f in zip(store.grid.shape, store.pyramid_factors(k), strict=True)
            )
            for k in (step.level, step.level - 1)
        )
        return below * ID_BYTES, above * ID_BYTES
    return 0, 0


def _windows(store: Store) -> int:
    """Bytes of grey values that all tiles see."""
    from cadseg.workers.predict import tiling  # torch takes seconds to import

    return tiling(store).voxels_read(store.grid.domain) * store.raw.dtype.itemsize


def _memory(store: Store, step: Step) -> int:
    """Bytes of a worker at its largest block of a step."""
    kind = step.name.partition("-")[0]
    grid, level = store.grid, step.level
    written, _ = _voxels(store, step, (0, 0, 0))
    read, _ = _voxels(store, step, step.halo)
    budget = round(store.config.agglomerate.memory_gb * 1e9)
    if kind in PER_VOXEL and not (kind == "absorb_small" and level):
        if kind == "pyramid":  # a shard at a time
            read = written = min(written, math.prod(grid.block_shape))
        per_read, per_written = PER_VOXEL[kind]
        need = per_read * read + per_written * written
        if kind == "edges":
            need += round(EDGES * written) * PER_ROW // 2
    elif kind == "agglomerate":
        need = round(EDGES * written) * PER_ROW
        need = need if level == 0 else min(need, budget)
    else:
        need = _joining(store, step, kind)
    return IDLE + need + _network(store, kind) + _decoding(store, kind)


def _joining(store: Store, step: Step, kind: str) -> int:
    """Bytes where tables of a block's children, with rows along their faces, are joined."""
    _, nz, ny, nx = step.level, *_longest(store, step)
    sides, sections = 4 * nz * (ny + nx), 4 * ny * nx
    if kind in ("cut", "measure", "absorb_small"):
        return round(CROSSING * sides + CROSSING_SECTIONS * sections) * PER_ENTRY
    faces = sides + (sections if store.config.fragments.dimensions == 3 else 0)
    return round(ENTRIES * faces) * PER_ENTRY


def _longest(store: Store, step: Step) -> Zyx:
    """Lengths of a step's blocks."""
    return zyx(
        min(n, whole)
        for n, whole in zip(store.grid.cell_shape(step.level), store.grid.domain.shape, strict=True)
    )


def _network(store: Store, kind: str) -> int:
    """Bytes that the network takes, which is where `predict` has its peak."""
    if kind != ("climb" if store.fused else "predict"):
        return 0
    from cadseg.workers.predict import tiling  # torch takes seconds to import

    cuda = CUDA if store.run["device"] == "cuda" else 0
    return NETWORK + cuda + tiling(store).memory()


def _decoding(store: Store, kind: str) -> int:
    """Bytes of the input's chunks while some of them are decoded."""
    first = "predict" if store.run["source"] == "raw" and not store.fused else "climb"
    if kind != first:
        return 0
    return 2 * DECODED_AT_ONCE * math.prod(store.raw.chunks) * store.raw.dtype.itemsize


def _compressed(store: Store, step: Step, planned: StepPlan) -> float:
    """Bytes on disk of the array that a step writes."""
    array = {"predict": "affinities", "climb": "basins", "pyramid": "segmentation"}
    kind = step.name.partition("-")[0]
    name = array.get(kind, "segmentation" if kind == "segment" else kind)
    if name not in COMPRESSED:
        return 0
    item = {"affinities": store.affinity_dtype.itemsize * 3, "basins": NUMBER_BYTES}
    return planned.written / item.get(name, ID_BYTES) * COMPRESSED[name]


def _files(store: Store, step: Step) -> int:
    """Files that the blocks of a step write: shards, tables, and records."""
    kind = step.name.partition("-")[0]
    blocks = store.grid.count(step.level)
    shards = blocks if kind in ("predict", "climb", "fragments", "segment") else 0
    if kind == "pyramid":
        shards = math.prod(
            -(-n // (f * b))
            for n, f, b in zip(
                store.grid.shape,
                store.pyramid_factors(step.level),
                store.grid.block_shape,
                strict=True,
            )
        )
    return shards + blocks * (1 + TABLE_COUNTS.get(kind, 0))
