"""Small segments join their best neighbour: exactly, by the merge tree, and no others do."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import oracle
import pytest
from generated import THOROUGH, Case, block_shapes, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import MemoryStore

from cadseg.agglomeration.scoring import METHODS

Array = np.ndarray[Any, Any]
THRESHOLD = "segment.threshold=0.8"


def literal(store: MemoryStore) -> Array:
    """The segmentation by the slow method, from the run's own fragments and contacts."""
    config = store.config
    graph = {(u, v): (s, c, m) for u, v, s, c, m in store.edges().tolist()}
    floor = Fraction(str(config.agglomerate.min_affinity)) * 255
    merges = oracle.greedy(graph, config.agglomerate.scoring, floor)
    threshold = Fraction(str(config.segment.threshold)) * 255
    ids = store.arrays["fragments"]
    return oracle.cut(ids, merges, threshold, config.segment.min_voxels)


@st.composite
def small_cases(draw: st.DrawFn) -> tuple[Case, tuple[int, int, int]]:
    """A case in which small segments merge, and a block shape."""
    case = draw(cases().filter(lambda case: case.min_voxels > 1))
    return case, draw(block_shapes(case.shape))


@settings(max_examples=300 if THOROUGH else 30)
@given(drawn=small_cases())
def test_small_segments_merge_by_the_whole_tree(drawn: tuple[Case, tuple[int, int, int]]) -> None:
    """However the volume is cut, small segments join what they join in the whole tree."""
    case, block_shape = drawn
    store = case.store(block_shape).run_all()
    np.testing.assert_array_equal(store.arrays["segmentation/0"], literal(store))


def sizes(segments: Array) -> dict[int, int]:
    """Voxels of each segment."""
    names, counts = np.unique(segments, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("engine", ["exact", "waterz"])
def test_large_segments_stay_apart(fib25_affinities: Array, engine: str) -> None:
    """Segments only join whole, small ones a larger one or each other; no two large ones do."""
    part = np.ascontiguousarray(fib25_affinities[:, :16, :80, :80])
    found = {}
    for least in (0, 30, 300):
        overrides = (f"agglomerate.engine={engine}", THRESHOLD, f"segment.min_voxels={least}")
        store = MemoryStore(part, block_shape=(9, 33, 50), overrides=overrides).run_all()
        found[least] = store.arrays["segmentation/0"]
    before = sizes(found[0])
    for least in (30, 300):
        pairs = np.unique(np.stack([found[0].ravel(), found[least].ravel()]), axis=1).T
        assert len(pairs) == len(before)  # whole
        large = [now for was, now in pairs.tolist() if before[was] >= least]
        assert len(large) == len(set(large)) > 2
        assert len(set(pairs[:, 1].tolist())) < len(before)
        # what is still small has no neighbour with which it could merge at all
        left = [size for size in sizes(found[least]).values() if size < least]
        assert len(left) < sum(size < least for size in before.values()) / 4


@pytest.mark.parametrize("block_shape", [(4, 60, 60), (2, 33, 17)])
@pytest.mark.parametrize("scoring", METHODS)
def test_a_real_tree_too(fib25_affinities: Array, scoring: str, block_shape: Any) -> None:
    """The same on a student's affinities."""
    part = np.ascontiguousarray(fib25_affinities[:, 8:12, :60, :60])
    store = MemoryStore(
        part,
        block_shape=block_shape,
        overrides=(f"agglomerate.scoring={scoring}", THRESHOLD, "segment.min_voxels=40"),
    ).run_all()
    np.testing.assert_array_equal(store.arrays["segmentation/0"], literal(store))


def test_a_small_segment_joins_what_it_touches() -> None:
    """Of a cluster that falls apart at the threshold, the piece next door counts, not the first.

    ::

        x  0         20        40
           a a a a a b b b b b c c       c merges with the cluster of a and b, which it meets at b
    """
    ids = np.array([1, 21, 41], np.uint64)
    store = MemoryStore(
        np.empty((3, 1, 1, 42), np.uint8),
        block_shape=(1, 1, 42),
        overrides=(THRESHOLD, "segment.min_voxels=3"),
    )
    numbers = np.array([1, 2, 3], np.uint32)
    store.arrays["basins"] = numbers.repeat([20, 20, 2]).reshape(1, 1, 42)
    columns = {"fragment": (21, 41), "parent": (1, 1), "key_u": (1, 21), "key_v": (21, 41)}
    columns |= {"sum": (128, 77), "count": (1, 1)}
    cell = (0, 0, 0)
    store.tables["merges", 0, cell] = {k: np.array(v, np.uint64) for k, v in columns.items()}
    nothing = np.empty(0, np.uint64)
    store.tables["basins", 0, cell] = {"id": ids}
    store.tables["exits", 0, cell] = {"exit": nothing}
    store.tables["rows", 0, cell] = dict.fromkeys(("u", "v", "key_u", "key_v"), nothing)
    store.tables["frozen", 0, cell] = {"fragment": nothing}
    found = store.run_all(first="absorb_small-0").arrays["segmentation/0"]
    assert found.ravel().tolist() == [1] * 20 + [21] * 22
