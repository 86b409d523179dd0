"""What one block writes: shards of arrays, tables, and what of them its record will list."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from cadseg.storage.columns import ColumnWriter
from cadseg.storage.tables import TableWriter
from cadseg.workers.checkpoint import Checkpoint
from cadseg.workers.names import FOR_USERS, columns_name, table_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cadseg.arrays import Array
    from cadseg.blocks import Block, Roi
    from cadseg.storage.checksums import Written
    from cadseg.storage.files import Batch, Sink
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store


class BlockWriter:
    """Writes files of one block, which are put in their place together.

    Attributes:
        written: what each of them is, by name, once they are complete.
        checkpoint: of what the block computes.
    """

    def __init__(
        self,
        store: Store,
        step: Step,
        block: Block,
        batch: Batch,
        sinks: contextlib.ExitStack,
    ) -> None:
        """Nothing is written yet; `batch` gets objects, and `sinks` ends those that are open."""
        self.written: dict[str, Written] = {}
        identity = store.identity(step.stage)
        self.checkpoint = Checkpoint(store.files, step.name, block.cell, identity)
        self._store, self._step, self._block = store, step, block
        self._batch, self._sinks = batch, sinks
        self._tables: dict[str, ColumnWriter | TableWriter] = {}

    def array(self, name: str, data: Array, names: Array | None = None) -> None:
        """Write `block.write` of array `name`; the rest of the block's cell becomes 0.

        Args:
            name: of the array.
            data: the voxels, or numbers of what they are.
            names: by number, what is written; 0 for 0.
        """
        block = self._block
        if block.write != block.cover:
            lead = data.shape[:-3]
            whole = np.zeros((*lead, *block.cover.shape), data.dtype)
            whole[(..., *block.write.slices(block.cover.begin))] = data
            data = whole
        self.shards(name, block.cover, data, names)

    def shards(self, name: str, roi: Roi, data: Array, names: Array | None = None) -> None:
        """Write whole shards of the array `name`."""
        assert name.partition("/")[0] in self._step.kind.writes, f"{self._step.name} writes {name}"
        self.written |= self._store.array(name).write(self._batch, roi, data, names)

    def table(self, kind: str, rows: Mapping[str, Array]) -> None:
        """Write rows of the table `kind`; called again, it adds some."""
        assert kind in self._step.kind.tables, f"{self._step.name} writes {kind}"
        writer = self._writer(kind)
        if isinstance(writer, ColumnWriter):
            writer.append(kind, rows)
        else:
            writer.append(rows)

    def close(self) -> None:
        """End the files."""
        for name, writer in self._tables.items():
            self.written[name] = writer.close()

    def _writer(self, kind: str) -> ColumnWriter | TableWriter:
        step, block = self._step, self._block
        name = columns_name(step.name, block.cell)
        if kind in FOR_USERS:
            name = table_name(kind, block.level, block.cell)
        if name not in self._tables:
            sink = self._sinks.enter_context(self._batch.writing(name))
            self._tables[name] = self._begun(kind, sink)
        return self._tables[name]

    def _begun(self, kind: str, sink: Sink) -> ColumnWriter | TableWriter:
        if kind not in FOR_USERS:
            return ColumnWriter(sink)
        writer = TableWriter(sink)
        self._sinks.callback(writer.abandon)
        return writer


@contextlib.contextmanager
def writing(store: Store, step: Step, block: Block) -> Iterator[BlockWriter]:
    """The writer of a block, whose files are in their place when the context has ended."""
    with store.files.batch() as batch, contextlib.ExitStack() as sinks:
        out = BlockWriter(store, step, block, batch, sinks)
        yield out
        out.close()
