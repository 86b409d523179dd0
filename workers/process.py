"""One block of one step, from its place in the grid to its done-record."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from cadseg.workers.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.blocks import Zyx
    from cadseg.workers.step import Step


def process(out: Path, step: Step, cell: Zyx) -> None:
    """Compute the block of `step` at `cell` and write its done-record; skip it if it is there."""
    store = _store(out)
    if store.record(step.name, step.stage, cell) is not None:
        return
    started = time.monotonic()
    store.checksum = 0
    block = store.grid.block(step.level, cell, step.halo)
    counts = step.kind.run(block, store)
    store.write_record(step.name, step.stage, block, counts, started)


@functools.cache
def _store(out: Path) -> Store:
    return Store.open(out)
