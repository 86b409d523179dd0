"""Law 4: one tree, every threshold. A cut at t is what agglomerating with threshold t gives."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import oracle
import pytest
from generated import THOROUGH, Case, block_shapes, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import MemoryStore

from cadseg import config as configs
from cadseg.agglomeration.scoring import METHODS

Array = np.ndarray[Any, Any]

FIRST = "agglomerate-0"


def again(store: MemoryStore, threshold: float) -> Array:
    """The segmentation when the floor itself is the threshold: agglomerated anew."""
    tree = store.config.model_dump()
    tree["segment"]["threshold"] = tree["agglomerate"]["min_affinity"] = threshold
    store.use(configs.from_tree(tree, "test"))
    return store.run_all(first=FIRST).arrays["segmentation/0"].copy()


def literal(store: MemoryStore, threshold: float) -> Array:
    """The segmentation by the slow method, from the run's own fragments."""
    graph = {(u, v): (s, c, m) for u, v, s, c, m in store.edges().tolist()}
    merges = oracle.greedy(graph, store.config.agglomerate.scoring, Fraction(str(threshold)) * 255)
    return oracle.segments(store.arrays["fragments"], merges)


def thresholds_of(store: MemoryStore) -> list[float]:
    """Thresholds at, just above and just below scores that occur, and between."""
    scores = sorted({round(s / c / 255, 3) for *_, s, c in store.merges().tolist()})
    chosen = scores[:: max(1, len(scores) // 4)]
    near = {t + d for t in chosen for d in (-0.001, 0.0, 0.001)} | {0.0, 0.2, 0.5, 1.0}
    floor = store.config.agglomerate.min_affinity
    return sorted(round(t, 3) for t in near if floor <= t <= 1)


def assert_one_tree(store: MemoryStore) -> None:
    store.run_all()
    thresholds = thresholds_of(store)
    cuts = {t: store.cut(t) for t in thresholds}
    for t, expected in cuts.items():
        np.testing.assert_array_equal(expected, literal(store, t), f"literal at {t}")
        np.testing.assert_array_equal(expected, again(store, t), f"again at {t}")


@st.composite
def cut_cases(draw: st.DrawFn) -> tuple[Case, tuple[int, int, int]]:
    """A case with a low floor, and a block shape."""
    case = draw(cases(largest=(3, 12, 14)))
    case = replace(case, floor=draw(st.sampled_from([0.0, case.floor])), min_voxels=0)
    return case, draw(block_shapes(case.shape))


@settings(max_examples=150 if THOROUGH else 10)
@given(drawn=cut_cases())
def test_every_cut_is_an_agglomeration(drawn: tuple[Case, tuple[int, int, int]]) -> None:
    """Cut at t, merged down to t, or merged by the literal method: the same segments and names."""
    case, block_shape = drawn
    assert_one_tree(case.store(block_shape))


@pytest.mark.parametrize("scoring", METHODS)
def test_every_cut_of_a_real_tree_is_an_agglomeration(
    fib25_affinities: Array, scoring: str
) -> None:
    """The same on a student's affinities, cut into blocks."""
    part = np.ascontiguousarray(fib25_affinities[:, 8:18, :60, :60])
    overrides = (
        f"agglomerate.scoring={scoring}",
        "agglomerate.min_affinity=0.0",
        "fragments.sigma=0.5",
    )
    store = MemoryStore(part, block_shape=(5, 33, 17), overrides=overrides)
    assert_one_tree(store)
    assert len(np.unique(store.arrays["fragments"])) > 150


@pytest.mark.parametrize("scoring", METHODS)
def test_a_higher_threshold_only_splits(fib25_affinities: Array, scoring: str) -> None:
    """Every segment lies in one segment of each lower threshold, whose name is not larger."""
    part = np.ascontiguousarray(fib25_affinities[:, :16, :80, :80])
    overrides = (f"agglomerate.scoring={scoring}",)
    store = MemoryStore(part, block_shape=(9, 50, 50), overrides=overrides).run_all()
    counts = []
    coarse = store.cut(0.1)
    for threshold in (0.3, 0.5, 0.7, 0.9):
        fine = store.cut(threshold)
        pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]
        assert (pairs[1] <= pairs[0]).all()
        counts.append(pairs.shape[1])
        coarse = fine
    assert len(set(counts)) == len(counts)


@pytest.mark.parametrize("scoring", METHODS)
def test_the_floor_only_ends_the_tree(fib25_affinities: Array, scoring: str) -> None:
    """With a higher floor the tree is the lower one's, without the merges below it."""
    part = np.ascontiguousarray(fib25_affinities[:, :8, :70, :70])
    trees = {}
    for floor in (0.0, 0.5):
        overrides = (f"agglomerate.scoring={scoring}", f"agglomerate.min_affinity={floor}")
        trees[floor] = MemoryStore(part, block_shape=(5, 40, 33), overrides=overrides)
        trees[floor].run_all()
    whole, ended = trees[0.0].merges(), trees[0.5].merges()
    above = [2 * s >= 255 * c for *_, s, c in whole.tolist()]
    np.testing.assert_array_equal(ended, whole[above])
    assert 0 < len(ended) < len(whole)
