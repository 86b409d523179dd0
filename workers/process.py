"""One block of one step, from its place in the grid to its record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cadseg.workers.writer import writing

if TYPE_CHECKING:
    from cadseg.blocks import Zyx
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store


def process(store: Store, step: Step, cell: Zyx) -> None:
    """Compute the block of `step` at `cell` and write its record; skip it if it is done.

    Raises:
        LostBlockError: a block that this one needs has to be computed again.
    """
    if store.record(step, cell) is not None:
        return
    started = time.monotonic()
    block = store.grid.block(step.level, cell, step.halo)
    with writing(store, step, block) as out:
        counts = step.kind.run(block, store, out)
    seconds = time.monotonic() - started + out.checkpoint.seconds
    store.write_record(step, block, out.written, counts, seconds)
    out.checkpoint.clear()
