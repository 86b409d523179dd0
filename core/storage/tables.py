"""Tables on disk: columns of equal length in one Parquet file, replaced whole.

The only file that opens pyarrow. A table is a dict of one-dimensional arrays; the order of rows is
the writer's, and writers sort, so that equal tables are equal files.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from cadseg.arrays import Array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cadseg.storage.files import Files

Table = dict[str, Array]

ENCODING = "DELTA_BINARY_PACKED"
"""Of all columns, which are integers: with it, writing takes half the time (61 and 28 ms for the
tables of 240 thousand edges, 2.3 and 2.8 MB), reading, too. Byte streams are smaller still, but
duckdb does not read them."""


def write(files: Files, name: str, table: Mapping[str, Array]) -> None:
    """Write `table` to the object `name`."""
    arrow = pa.table({column: pa.array(values) for column, values in table.items()})
    sink = pa.BufferOutputStream()
    pq.write_table(
        arrow,
        sink,
        compression="zstd",
        column_encoding=dict.fromkeys(arrow.column_names, ENCODING),
        write_statistics=False,
        use_dictionary=False,
    )
    files.write(name, memoryview(sink.getvalue()))


def read(files: Files, name: str, columns: tuple[str, ...] | None = None) -> Table:
    """The table in the object `name`, or some columns of it, which are all that is then read.

    Each is a numpy array of the type as written.
    """
    source = pa.BufferReader(files.read(name)) if columns is None else _Object(files, name)
    with pq.ParquetFile(source) as file:  # pq.read_table imports pandas, for half a second
        arrow = file.read(None if columns is None else list(columns), use_threads=False)
    return {column: arrow.column(column).to_numpy() for column in arrow.column_names}


class _Object(io.RawIOBase):
    """An object as a file of which pyarrow reads the parts that it needs."""

    def __init__(self, files: Files, name: str) -> None:
        self._files, self._name = files, name
        self._size, self._place = files.size(name), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = start + offset
        return self._place

    def read(self, size: int = -1) -> bytes:
        length = self._size - self._place if size < 0 else size
        (part,) = self._files.read_ranges(self._name, [(self._place, length)])
        self._place += len(part)
        return part
