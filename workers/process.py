"""One block of one step, from its place in the grid to its done-record."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cadseg.blocks import Zyx
    from cadseg.workers.store import Store


@dataclass(frozen=True)
class Step:
    """One kind of block, for all blocks: what the schedule runs as one task.

    Attributes:
        name: of the step, unique in a run; the folder of its records.
        stage: the stage that it belongs to.
        work: module with ``run(block, store, step) -> counts``.
        level: of the grid whose cells are its blocks.
        halo: voxels that a block reads beyond its own, z y x.
        after: steps whose blocks under what a block reads must be done first.
    """

    name: str
    stage: str
    work: str
    level: int = 0
    halo: Zyx = (0, 0, 0)
    after: tuple[str, ...] = ()


def process(store: Store, step: Step, cell: Zyx) -> None:
    """Compute the block of `step` at `cell` and write its done-record; skip it if it is there."""
    if store.record(step.name, step.stage, cell) is not None:
        return
    started = time.monotonic()
    store.checksum = 0
    block = store.grid.block(step.level, cell, step.halo)
    counts = importlib.import_module(step.work).run(block, store)
    store.write_record(step.name, step.stage, block, counts, started)
