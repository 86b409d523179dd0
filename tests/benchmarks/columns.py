"""Tables of a run, packed as cadseg's column files and as Parquet: bytes, and seconds to and fro.

``python tests/benchmarks/columns.py OUT``: OUT is a finished run; every table of each block is
written to memory and read back, each way, one after the other.
"""

from __future__ import annotations

import io
import sys
import time
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from cadseg.storage.columns import ColumnFile, ColumnWriter, Table
from cadseg.storage.tables import TableWriter
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable


def as_columns(table: Table) -> bytes:
    """The bytes of a column file with one table."""
    sink = io.BytesIO()
    writer = ColumnWriter(sink)  # type: ignore[arg-type]
    writer.append("t", table)
    writer.close()
    return sink.getvalue()


def from_columns(content: bytes) -> Table:
    """Its table."""

    def read(spans: list[tuple[int, int]]) -> list[bytes]:
        return [content[max(0, b + (b < 0) * len(content)) :][:n] for b, n in spans]

    return ColumnFile("", read).read("t")  # type: ignore[arg-type]


def as_parquet(table: Table) -> bytes:
    """The bytes of a table for users."""
    sink = io.BytesIO()
    writer = TableWriter(sink)  # type: ignore[arg-type]
    writer.append(table)
    writer.close()
    return sink.getvalue()


def from_parquet(content: bytes) -> Table:
    """Its table."""
    arrow = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    return {name: arrow.column(name).to_numpy() for name in arrow.column_names}


def timed(act: Callable[..., object], things: list[object]) -> tuple[float, list[object]]:
    """CPU seconds, and what came of it."""
    act(things[0])
    began = time.process_time()
    made = [act(thing) for thing in things]
    return time.process_time() - began, made


def main(out: str) -> None:
    """A row per way."""
    store = Store.open(out)
    tables: list[object] = [
        store.read_table(key[0], step.level, cell)
        for key, step in store.producers.items()
        if isinstance(key, tuple)
        for cell in store.grid.cells(step.level)
    ]
    print("| | MB | written, s | read, s |\n|---|---|---|---|")
    for name, write, read in (
        ("columns", as_columns, from_columns),
        ("Parquet", as_parquet, from_parquet),
    ):
        writing, contents = timed(write, tables)
        reading, _ = timed(read, contents)
        size = sum(len(content) for content in contents) / 1e6  # type: ignore[arg-type]
        print(f"| {name} | {size:.1f} | {writing:.2f} | {reading:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1])
