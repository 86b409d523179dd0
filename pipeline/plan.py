"""What a run would take, before it starts: blocks, bytes, files and memory, as plain data.

It follows from the grid and from what each kind of step says that it costs; no voxel is read and
nothing is written. Numbers of bytes that depend on what the volume shows (rows of tables, sizes of
compressed files) are estimates from measured volumes, on the safe side; arrays are exact.

Memory is the peak resident set of one worker process, without files that it has mapped, which the
system takes back when it needs to. Peaks of a worker that goes through many blocks of 48 x 1024 x
1024 voxels of SNEMI3D and keeps the memory of one for the next, in MB (`versus.py`, 1007 and 252
Mvoxel): climb 1365, pyramid 1228, segment 660, fragments 608, agglomerate 447, edges 365. What the
kinds of steps say lies above these, and above one block of 8 x 32 x 32 voxels.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.pipeline.execution.records import ENOUGH
from cadseg.workers.arrays import ARRAYS
from cadseg.workers.estimates import EDGES
from cadseg.workers.names import FOR_USERS, SUPER
from cadseg.workers.stages import steps_of
from cadseg.workers.step import Work

if TYPE_CHECKING:
    from cadseg.blocks import Grid
    from cadseg.pipeline.prepare import PreparedRun
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store

IDLE = 400_000_000
"""Bytes of a worker with all its code, without a block: 152 MB idle, up to 300 at 8 x 32 x 32."""

# Disk, after compression, measured on 95 Mvoxel of SNEMI3D.
TABLES = 0.4
"""Bytes of all tables per voxel: 0.18."""

TABLE_BYTES = 150
"""Bytes per edge in all tables, if nothing compresses."""

RECORD_BYTES = 4096
"""A record in a file of its own, on a file system with pages of that size; packed, 20 to 60."""


@dataclass(frozen=True)
class StepPlan:
    """One step of a run.

    Attributes:
        name: of the step.
        blocks: how many.
        voxels: that the largest of them writes.
        read: bytes of arrays that all of them read, halos included, before compression.
        written: bytes of arrays that all of them write, before compression.
        compressed: the same after compression, estimated.
        files: that all of them leave: shards, tables and records.
        memory: bytes that a worker has at most.
        budgeted: whether what does not fit into ``agglomerate.memory_gb`` lies in files.
    """

    name: str
    blocks: int
    voxels: int
    read: int
    written: int
    compressed: float
    files: int
    memory: int
    budgeted: bool


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        out: where it lies.
        workers: processes that compute at the same time.
        steps: in their order.
        disk: bytes of the folder at the end, estimated from measured compression.
        disk_limit: the same if nothing compresses.
        disk_free: bytes free where the folder will lie.
        files: in the folder at the end.
        ram: bytes of memory that this machine has.
    """

    out: str
    workers: int
    steps: tuple[StepPlan, ...]
    disk: int
    disk_limit: int
    disk_free: float
    files: int
    ram: int

    @property
    def memory(self) -> int:
        """Peak memory of a worker, in bytes."""
        return max(step.memory for step in self.steps)

    def memory_of(self, workers: int) -> int:
        """Bytes of so many workers at once: those of the blocks, of any steps, that take most."""
        total, left = 0, workers
        for step in sorted(self.steps, key=lambda step: step.memory, reverse=True):
            total += step.memory * min(left, step.blocks)
            left -= min(left, step.blocks)
        return total

    @property
    def advice(self) -> tuple[str, ...]:
        """A sentence for each thing that does not fit."""
        lines = []
        if self.memory > self.ram:
            most = max(self.steps, key=lambda step: step.memory)
            key = "agglomerate.memory_gb" if most.budgeted else "block_shape"
            lines.append(f"{most.name} needs more memory than there is: make {key} smaller")
        elif self.memory_of(self.workers) > self.ram:
            fitting = next(n for n in range(self.workers, 0, -1) if self.memory_of(n) <= self.ram)
            lines.append(f"so many workers need more memory than there is: use --workers {fitting}")
        if self.disk > self.disk_free:
            lines.append("the disk is too small: choose another with --out")
        return tuple(lines)


def plan(prepared: PreparedRun, workers: int = 1) -> Plan:
    """What the run `prepared` would take, from its beginning, with so many workers."""
    store = prepared.store
    steps = steps_of(store, prepared.until)
    planned = tuple(_step_plan(store, step) for step in steps)
    records = RECORD_BYTES * sum(step.blocks for step in planned)
    voxels = store.grid.domain.size if any(step.stage == "edges" for step in steps) else 0
    return Plan(
        out=prepared.out,
        workers=workers,
        steps=planned,
        disk=round(sum(step.compressed for step in planned) + TABLES * voxels) + records,
        disk_limit=sum(step.written for step in planned)
        + round(EDGES * TABLE_BYTES * voxels)
        + records,
        disk_free=store.files.room(),
        files=sum(step.files for step in planned),
        ram=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def _tables(step: Step) -> int:
    """Files of tables per block: one for each that is for users, one for all others."""
    users = sum(table in FOR_USERS for table in step.kind.tables)
    return users + (users < len(step.kind.tables))


def _records(grid: Grid, level: int) -> int:
    """Files of records of a finished step: a pack per super-cell that has enough, else as many."""
    lengths = [
        Counter(
            min(end, first + SUPER) - max(begin, first)
            for first in range(begin // SUPER * SUPER, end, SUPER)
        )
        for begin, end in zip(*grid.span(level), strict=True)
    ]
    total = 0
    for axes in itertools.product(*(axis.items() for axis in lengths)):
        blocks, cells = math.prod(n for n, _ in axes), math.prod(times for _, times in axes)
        total += cells * (1 if blocks >= ENOUGH else blocks)
    return total


def _step_plan(store: Store, step: Step) -> StepPlan:
    work = Work(store, step)
    cost = step.kind.cost(work)
    arrays = [ARRAYS[name] for name in step.kind.writes]
    return StepPlan(
        name=step.name,
        blocks=work.blocks,
        voxels=work.largest,
        read=cost.read,
        written=cost.written,
        compressed=sum(cost.written / array.voxel * array.compressed for array in arrays),
        files=cost.shards + work.blocks * _tables(step) + _records(store.grid, step.level),
        memory=IDLE + cost.memory,
        budgeted=step.level > 0 and step.kind.name != "pyramid",
    )
