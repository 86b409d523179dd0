"""Rows of the graph: joined, taken and stored without losing a contact."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.agglomeration.scoring import METHODS
from cadseg.graph.cluster_graph import Graph, joined, joined_columns
from cadseg.graph.edges import Edges
from cadseg.storage.columns import ColumnFile, ColumnWriter
from cadseg.storage.local_files import LocalFiles
from cadseg.storage.scratch import Scratch

Array = np.ndarray[Any, Any]
FEW = settings(max_examples=40, deadline=None)
COLUMNS = ("u", "v", "key_u", "key_v", "sum", "count", "width", "bin", "bin_count")


@st.composite
def contacts(draw: st.DrawFn) -> dict[tuple[int, int], tuple[int, int, int]]:
    """Sum, count and max of some pairs."""
    pairs = st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda p: p[0] < p[1])
    values = st.tuples(st.integers(0, 900), st.integers(1, 9), st.integers(0, 255))
    return draw(st.dictionaries(pairs, values, max_size=12))


def edges(found: dict[tuple[int, int], tuple[int, int, int]]) -> Edges:
    rows = np.array(
        [(*pair, *contact) for pair, contact in sorted(found.items())], np.uint64
    ).reshape(-1, 5)
    return Edges(*(rows[:, i].copy() for i in range(4)), rows[:, 4].astype(np.uint32))


def same(one: Graph, other: Graph) -> bool:
    return all(np.array_equal(getattr(one, c), getattr(other, c)) for c in COLUMNS)


@FEW
@given(parts=st.lists(contacts(), min_size=1, max_size=4), scoring=st.sampled_from(sorted(METHODS)))
def test_parts_of_an_edge_join_to_one(parts: list[Any], scoring: str) -> None:
    """Sums and counts add, the larger maximum counts once, and rows are sorted and unique."""
    expected: dict[tuple[int, int], tuple[int, int, int]] = {}
    for part in parts:
        for pair, (total, count, largest) in part.items():
            old = expected.get(pair, (0, 0, 0))
            expected[pair] = (old[0] + total, old[1] + count, max(old[2], largest))
    found = joined([METHODS[scoring].from_edges(edges(part)) for part in parts])
    assert same(found, METHODS[scoring].from_edges(edges(expected)))


@FEW
@given(parts=st.permutations([1, 2, 3, 4]), found=st.lists(contacts(), min_size=4, max_size=4))
def test_the_order_of_blocks_does_not_matter(parts: list[int], found: list[Any]) -> None:
    """Joining in another order, or some of them first, gives the same rows."""
    graphs = [METHODS["median"].from_edges(edges(part)) for part in found]
    expected = joined(graphs)
    assert same(joined([graphs[i - 1] for i in parts]), expected)
    assert same(joined([joined(graphs[:2]), joined(graphs[2:])]), expected)


def histograms(shift: int = 0) -> Graph:
    """Three rows with 2, 0 and 3 bins."""
    ids = np.array([1, 2, 3], np.uint64) + np.uint64(shift)
    return Graph(
        u=ids,
        v=ids + np.uint64(5),
        key_u=ids,
        key_v=ids + np.uint64(4),
        sum=ids * np.uint64(100),
        count=ids,
        width=np.array([2, 0, 3], np.uint32),
        bin=np.array([10, 20, 30, 40, 50], np.uint32),
        bin_count=np.array([1, 2, 3, 4, 5], np.uint64),
    )


@FEW
@given(order=st.permutations(range(4)))
def test_rows_take_their_bins_along(order: list[int]) -> None:
    """Rows of several blocks, sorted into one graph, keep their own histograms."""
    parts = [histograms(shift) for shift in (0, 3, 20, 70)]
    found = joined([parts[i] for i in order])
    assert found.u.tolist() == [1, 2, 3, 4, 5, 6, 21, 22, 23, 71, 72, 73]
    assert found.width.tolist() == [2, 0, 3] * 4
    assert found.bin.tolist() == [10, 20, 30, 40, 50] * 4
    assert found.bin_count.tolist() == [1, 2, 3, 4, 5] * 4


def test_rows_of_merged_clusters_pass_through_a_join() -> None:
    """A row with a long histogram that only one block has stays as it is."""
    other = METHODS["median"].from_edges(edges({(1, 2): (5, 1, 5)}))
    found = joined([histograms(), other, other])
    assert found.u.tolist() == [1, 1, 2, 3]
    assert found.v.tolist() == [2, 6, 7, 8]
    assert found.sum.tolist() == [10, 100, 200, 300]
    assert found.width.tolist() == [1, 2, 0, 3]
    assert found.bin.tolist() == [5, 10, 20, 30, 40, 50]
    assert found.bin_count.tolist() == [1, 1, 2, 3, 4, 5]


def test_a_graph_is_stored_and_read_back(tmp_path: Any) -> None:
    """Rows to tables, to files, and back is the identity, types included."""
    files = LocalFiles(tmp_path)
    with files.batch() as batch, batch.writing("graph") as sink:
        writer = ColumnWriter(sink)
        for name, table in zip(("rows", "bins"), histograms().tables(), strict=True):
            writer.append(name, table)
        writer.close()
    file = ColumnFile("graph", functools.partial(files.read_ranges, "graph"))
    stored = file.read("rows") | file.read("bins")
    again = joined_columns([lambda name: [stored[name]]], Scratch())
    assert same(again, histograms())
    assert [getattr(again, c).dtype for c in COLUMNS] == [
        getattr(histograms(), c).dtype for c in COLUMNS
    ]


def test_no_rows_are_no_rows() -> None:
    """A block without a contact hands up an empty graph."""
    for method in METHODS.values():
        empty = method.from_edges(edges({}))
        assert joined([empty, empty]).u.size == 0
