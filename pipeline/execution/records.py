"""Which blocks are done, by the records in a run's folder: they alone are believed.

A block is *done* when its record is there and carries the identity that its stage has now. Written
by workers, read by every process of a run, and by ``cadseg status``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.workers.names import listed, record_name

if TYPE_CHECKING:
    from cadseg.blocks import Zyx
    from cadseg.workers.records import Record
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store


def records(store: Store, step: Step, *, prune: bool = False) -> dict[Zyx, Record]:
    """The records of `step`; with `prune`, others in their place are removed."""
    begin, end = store.grid.span(step.level)
    found = {}
    for cell in listed(store.files, f"records/{step.name}", ".json"):
        if not all(b <= c < e for b, c, e in zip(begin, cell, end, strict=True)):
            continue
        record = store.record(step, cell)
        if record is not None:
            found[cell] = record
        elif prune:
            store.files.remove(record_name(step.name, cell))
    return found
