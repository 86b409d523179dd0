"""Tables of one block in one file: what is written is read, and what was changed is seen."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cadseg.storage import columns
from cadseg.storage.checksums import DamagedError, Written
from cadseg.storage.columns import ColumnFile, ColumnWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TYPES = st.sampled_from(["u1", "u4", "u8", "i8"])


def file_of(content: bytes, written: Written | None = None) -> ColumnFile:
    """A file that lies in memory."""

    def read(spans: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        for begin, length in spans:
            begin = max(0, len(content) + begin) if begin < 0 else begin
            yield content[begin : begin + length]

    return ColumnFile("t", read, written)


def written(*appended: tuple[str, dict[str, Any]]) -> tuple[bytes, Written]:
    """The content of a file to which these rows were added, and what it is."""
    sink = io.BytesIO()
    writer = ColumnWriter(sink)  # type: ignore[arg-type]
    for table, rows in appended:
        writer.append(table, rows)
    made = writer.close()
    return sink.getvalue(), made


@given(data=st.data(), part=st.integers(1, 7))
def test_there_and_back(data: st.DataObject, part: int) -> None:
    """Tables come back whole, in parts, and row by row, however they were added."""
    names = data.draw(st.dictionaries(st.sampled_from("ab"), TYPES, min_size=1))
    whole: dict[str, list[Any]] = {name: [] for name in names}
    appended = []
    for _ in range(data.draw(st.integers(1, 3))):
        size = data.draw(st.integers(0, 9))
        rows = {name: data.draw(arrays.arrays(dtype, size)) for name, dtype in names.items()}
        appended.append(("t", rows))
        for name, column in rows.items():
            whole[name].append(column)
    before, columns.PART = columns.PART, part
    try:
        content, made = written(*appended, ("other", {"x": np.arange(3)}))
    finally:
        columns.PART = before
    assert made.length == len(content)
    found = file_of(content, made)
    table = {name: np.concatenate(column) for name, column in whole.items()}
    assert found.rows("t") == next(iter(table.values())).size
    parts = list(found.parts("t"))
    begin, end = sorted(data.draw(st.integers(0, found.rows("t"))) for _ in range(2))
    between = found.between("t", begin, end)
    for name, column in table.items():
        assert found.read("t", [name])[name].dtype == column.dtype
        np.testing.assert_array_equal(found.read("t", [name])[name], column)
        np.testing.assert_array_equal(between[name], column[begin:end])
        assert sum(part[name].size for part in parts) == column.size
    np.testing.assert_array_equal(found.read("other")["x"], np.arange(3))


def test_every_flipped_bit_is_seen() -> None:
    """With any one bit changed, or cut anywhere, a file that is read whole is found damaged."""
    content, made = written(("t", {"a": np.arange(50), "b": np.arange(50)[::-1] ** 2}))

    def read(content: bytes) -> None:
        file_of(content, made).read("t")

    read(content)
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(DamagedError, match=r"^t: "):
            read(bytes(changed))
    for length in range(len(content)):
        with pytest.raises(DamagedError, match=r"^t: "):
            read(content[:length])


def test_another_file_is_not_this_one() -> None:
    """A sound file with other content is not what was written."""
    content, _ = written(("t", {"a": np.arange(50)}))
    _, other = written(("t", {"a": np.arange(51)}))
    assert file_of(content).rows("t") == 50
    with pytest.raises(DamagedError, match="is not what its block wrote"):
        file_of(content, other)


def test_a_long_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail longer than the first guess is read whole."""
    monkeypatch.setattr(columns, "PART", 1)
    content, made = written(("t", {"a": np.arange(500)}))
    assert len(content) > 2 * columns._GUESS
    np.testing.assert_array_equal(file_of(content, made).read("t")["a"], np.arange(500))
