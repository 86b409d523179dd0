"""Which blocks are done, by the records in a run's folder: they alone are believed.

A block is *done* when its record is there and carries the identity that its stage has now. Written
by workers, read by every process of a run, and by ``cadseg status``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cadseg.blocks import Zyx, zyx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cadseg.storage.files import Files
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store


def records(store: Store, step: Step, *, prune: bool = False) -> dict[Zyx, dict[str, Any]]:
    """The done-records of `step`; with `prune`, others in their place are removed."""
    begin, end = store.grid.span(step.level)
    found = {}
    for cell in listed(store.files, f"records/{step.name}"):
        if not all(b <= c < e for b, c, e in zip(begin, cell, end, strict=True)):
            continue
        record = store.record(step.name, step.stage, cell)
        if record is not None:
            found[cell] = record
        elif prune:
            store.files.remove(store.record_name(step.name, cell))
    return found


def listed(files: Files, folder: str) -> Iterator[Zyx]:
    """The cells that have an object ``z.y.x.json`` in `folder`."""
    for name in files.list(folder):
        stem, _, suffix = name.rpartition(".")
        parts = stem.split(".")
        if suffix == "json" and len(parts) == 3 and all(part.isdigit() for part in parts):
            yield zyx(parts)
