"""Tables for users: columns of equal length in one Parquet file, replaced whole.

The only file that opens pyarrow. A table is a dict of one-dimensional arrays; the order of rows is
the writer's, and writers sort, so that equal tables are equal files. Parquet has no checksum of its
own that covers all of a file, so a reader compares that of its whole content.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from cadseg.storage.checksums import Counted, DamagedError, Written, checksum
from cadseg.storage.columns import PART, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cadseg.arrays import Array
    from cadseg.storage.files import Data, Files, Sink

ENCODING = "DELTA_BINARY_PACKED"
"""Of all columns, which are integers: with it, writing takes half the time (61 and 28 ms for the
tables of 240 thousand edges, 2.3 and 2.8 MB), reading, too. Byte streams are smaller still, but
duckdb does not read them."""

_PIECE = 1 << 24  # bytes of a file that are read at a time


class TableWriter:
    """Writes one table, a group of rows after the other."""

    def __init__(self, sink: Sink) -> None:
        """Nothing is written yet."""
        self._counted = Counted(sink)
        self._file = _Sequential(self._counted)
        self._writer: pq.ParquetWriter | None = None

    def append(self, table: Mapping[str, Array]) -> None:
        """Add rows; each time the same columns, integers of equal length."""
        arrow = pa.table({column: pa.array(values) for column, values in table.items()})
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._file,
                arrow.schema,
                compression="zstd",
                column_encoding=dict.fromkeys(arrow.column_names, ENCODING),
                write_statistics=False,
                use_dictionary=False,
            )
        self._writer.write_table(arrow)

    def close(self) -> Written:
        """End the file; what it is."""
        assert self._writer is not None, "a table without columns"
        self._writer.close()
        return self._counted.written

    def abandon(self) -> None:
        """The sink is over: pyarrow, which ends a file when it is forgotten, writes nowhere."""
        self._file.abandon()


class TableFile:
    """One table, read as far as it is asked for."""

    def __init__(self, files: Files, name: str, written: Written | None = None) -> None:
        """Open it.

        Args:
            files: where it lies.
            name: of the object.
            written: what it must be; None to believe it.

        Raises:
            DamagedError: it is not that.
            FileNotFoundError: there is none.
        """
        self.name = name
        try:
            self._file: Any = pq.ParquetFile(_source(files, name, written))
        except pa.ArrowException as error:
            raise DamagedError(name, " ".join(str(error).split())) from None

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self._file.metadata.num_rows)

    def parts(self, columns: Iterable[str] | None = None) -> Iterator[Table]:
        """Some columns, or all, at most `PART` rows at a time."""
        names = None if columns is None else list(columns)
        for part in self._file.iter_batches(PART, columns=names, use_threads=False):
            yield _arrays(pa.Table.from_batches([part]))

    def read(self, columns: Iterable[str] | None = None) -> Table:
        """Some columns, or all: each a numpy array of the type as written."""
        # pq.read_table imports pandas, for half a second
        return _arrays(
            self._file.read(None if columns is None else list(columns), use_threads=False)
        )


def _arrays(arrow: Any) -> Table:
    return {column: arrow.column(column).to_numpy() for column in arrow.column_names}


def _source(files: Files, name: str, written: Written | None) -> Any:
    """What pyarrow reads: a small file is in memory, of a larger one no more than is needed."""
    if written is None or written.length > _PIECE:
        if written is not None:
            check(files, name, written)
        return pa.PythonFile(_Object(files, name), "r")
    content = files.read(name)
    if (len(content), checksum(content)) != written:
        raise DamagedError(name, "it is not what its block wrote")
    return pa.BufferReader(content)


def check(files: Files, name: str, written: Written) -> None:
    """Compare the content with what it must be, a piece at a time.

    Raises:
        DamagedError: it is not that.
    """
    spans = [(begin, _PIECE) for begin in range(0, written.length + 1, _PIECE)]
    sink = Counted(_Nowhere())
    for piece in files.read_ranges(name, spans):
        sink.write(piece)
    if sink.written != written:
        raise DamagedError(name, "it is not what its block wrote")


class _Sequential(io.RawIOBase):
    """A sink as a file that pyarrow writes from its begin to its end."""

    def __init__(self, sink: Counted) -> None:
        self._sink: Counted | None = sink

    def writable(self) -> bool:
        return True

    def abandon(self) -> None:
        """Write no more."""
        self._sink = None

    def write(self, data: Any) -> int:
        return len(data) if self._sink is None else self._sink.write(data)


class _Nowhere:
    """A sink that keeps nothing."""

    def write(self, data: Data) -> None:
        pass


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
