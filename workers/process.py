"""One block of one step, from its place in the grid to its done-record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cadseg.blocks import Zyx
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store


def process(store: Store, step: Step, cell: Zyx) -> None:
    """Compute the block of `step` at `cell` and write its done-record; skip it if it is there."""
    if store.record(step.name, step.stage, cell) is not None:
        return
    started = time.monotonic()
    store.checksum = 0
    block = store.grid.block(step.level, cell, step.halo)
    counts = step.kind.run(block, store)
    store.write_record(step.name, step.stage, block, counts, started)
