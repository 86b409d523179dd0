"""Rows that describe segments: what they say, and that blocks add up to the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from generated import THOROUGH, Case, block_shapes, cases
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.agglomeration.segment_table import LOWER, UPPER, VALUES, measured
from cadseg.blocks import Roi, Zyx

if TYPE_CHECKING:
    from in_memory import MemoryStore

Array = np.ndarray[Any, Any]

COLUMNS = ("segment", *VALUES)


def literal(fragments: Array, segments: Array) -> list[tuple[int, ...]]:
    """The rows of whole arrays, by looking for every segment."""
    rows = []
    for segment in np.unique(segments[segments != 0]).tolist():
        inside = segments == segment
        places = np.argwhere(inside)
        box = (*places.min(0).tolist(), *(places.max(0) + 1).tolist())
        rows.append((segment, len(places), *box, len(np.unique(fragments[inside]))))
    return rows


def rows(store: MemoryStore) -> list[tuple[int, ...]]:
    """All rows of a run, sorted."""
    return list(map(tuple, store.column("segments", *COLUMNS).tolist()))


def test_a_row_says_how_large_where_and_of_how_many() -> None:
    """A drawn section: segment 1 of two fragments, segment 6 of one, and background."""
    numbers = np.array([[[1, 1, 2, 0], [1, 2, 2, 0], [0, 0, 0, 3]]], np.uint32)
    fragments, segments = (np.array(ids, np.uint64) for ids in ((0, 1, 3, 12), (0, 1, 1, 12)))
    table = measured(numbers, fragments, segments, Roi((0, 0, 0), (1, 3, 4)), (1, 3, 4))
    found = list(zip(*(table[name].tolist() for name in COLUMNS), strict=True))
    assert found == [(1, 6, 0, 0, 0, 1, 2, 3, 2), (12, 1, 0, 2, 3, 1, 3, 4, 1)]
    assert table["segment"].dtype == np.uint64
    assert {table[name].dtype for name in VALUES} == {np.dtype(np.int64)}


def assert_rows(case: Case, block_shape: Zyx) -> MemoryStore:
    store = case.store(block_shape).run_all()
    found = rows(store)
    assert found == literal(store.arrays["fragments"], store.arrays["segmentation/0"])
    return store


@st.composite
def cut_cases(draw: st.DrawFn) -> tuple[Case, Zyx]:
    """A case, and a block shape."""
    case = draw(cases())
    return case, draw(block_shapes(case.shape))


@settings(max_examples=300 if THOROUGH else 40)
@given(drawn=cut_cases())
def test_cutting_changes_nothing(drawn: tuple[Case, Zyx]) -> None:
    """However the volume is cut, the rows are those of its arrays, each segment once."""
    assert_rows(*drawn)


@pytest.mark.parametrize("block_shape", [(4, 14, 14), (2, 9, 9), (3, 9, 30)])
def test_rows_leave_as_soon_as_they_are_complete(block_shape: Zyx) -> None:
    """A row is written by the smallest block above level 0 that holds all around its segment."""
    domain = Roi((0, 1, 2), (4, 27, 30))
    case = Case(seed=1, shape=(4, 28, 30), levels=30, smooth=1.0, threshold=0.9, roi=domain)
    store = assert_rows(case, block_shape)
    written = set()
    for (kind, level, cell), table in store.tables.items():
        columns = [table[name].tolist() for name in (*LOWER, *UPPER)] if kind == "segments" else []
        for values in zip(*columns, strict=True):
            around = Roi(values[:3], values[3:]).grown((1, 1, 1), (1, 1, 1)).clipped(domain)
            assert store.grid.block(level, cell).write.contains(around)
            smaller = store.grid.children(level, cell) if level > 1 else []
            for child in smaller:
                assert not store.grid.block(level - 1, child).write.contains(around)
            written.add(level)
    assert written == set(range(1, store.grid.top + 1))


def test_many_segments_in_one_block() -> None:
    """Tens of thousands of segments, all counted."""
    rng = np.random.default_rng(0)
    numbers = (rng.permutation(20_000) + 1).astype(np.uint32).repeat(3).reshape(3, 100, 200)
    names = np.arange(20_001, dtype=np.uint64)
    box = Roi((0, 0, 0), numbers.shape)
    table = measured(numbers, names, names * np.uint64(7), box, box.shape)
    np.testing.assert_array_equal(table["segment"], np.arange(7, 140_001, 7))
    assert (table["voxels"] == 3).all()
