"""The records of a run, looked up block by block, by a process that keeps what it has read.

A record of its own comes before a packed one. The driver puts a pack in its place before it removes
the records that are in it: where there is neither a record nor one in the pack that is known, the
pack is looked at again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.storage.checksums import DamagedError
from cadseg.workers import packs, records
from cadseg.workers.names import files_of, super_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cadseg.blocks import Zyx
    from cadseg.storage.files import Files
    from cadseg.workers.packs import Pack
    from cadseg.workers.records import Record
    from cadseg.workers.step import Step

KNOWN = 4096
"""Records that are kept in memory."""

PACKS = 32
"""Packs that are kept in memory, of 0.4 MB each."""


class Lookup:
    """Finds records."""

    def __init__(self, files: Files, pyramid: Sequence[Zyx]) -> None:
        """Nothing is known yet; `pyramid` is the manifest's."""
        self._files = files
        self._pyramid = pyramid
        self._records: dict[tuple[str, Zyx, str], Record] = {}
        self._packs: dict[tuple[str, Zyx], Pack] = {}

    def record(self, step: Step, cell: Zyx, identity: str) -> Record | None:
        """The record of a block that carries `identity`; None where there is none."""
        key = step.name, cell, identity
        if key not in self._records:
            record = records.read(self._files, step.name, cell)
            if record is None or record.identity != identity:
                record = self._packed(step, cell, identity)
            if record is None:
                return None
            if len(self._records) == KNOWN:
                self._records.clear()
            self._records[key] = record
        return self._records[key]

    def forget(self, step: str, cell: Zyx) -> None:
        """The record of a block was removed."""
        self._packs.pop((step, super_cell(cell)), None)
        for key in [key for key in self._records if key[:2] == (step, cell)]:
            del self._records[key]

    def _packed(self, step: Step, cell: Zyx, identity: str) -> Record | None:
        key = step.name, super_cell(cell)
        pack = self._packs.pop(key, None)
        if pack is None or cell not in pack:
            try:
                pack = packs.read(self._files, *key, pack)
            except DamagedError:  # the driver will see it
                return None
        if pack is None:
            return None
        if len(self._packs) == PACKS:
            del self._packs[next(iter(self._packs))]  # the one that was not asked for longest
        self._packs[key] = pack
        if cell not in pack or pack.identity != identity:
            return None
        return pack.record(cell, [name for (name,) in files_of(step, [cell], self._pyramid)])
