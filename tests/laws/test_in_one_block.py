"""A volume in memory has the scores of a run in blocks, exactly, at every threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from generated import Case, block_shapes, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import MemoryStore

from cadseg import config as configs
from cadseg.errors import ConfigError, VolumeError
from cadseg.evaluation.in_memory import scores_at
from cadseg.evaluation.metrics import Scores, contingency, scores

Array = np.ndarray[Any, Any]


def of_a_run(store: MemoryStore, labels: Array, thresholds: list[float]) -> list[Scores]:
    """Scores of the run's segmentations; `labels` are 0 or more."""
    store.run_all()
    return [scores(contingency(store.cut(threshold), labels)) for threshold in thresholds]


@st.composite
def drawn(draw: st.DrawFn) -> tuple[Case, tuple[int, int, int], Array, list[float]]:
    """A case of a whole volume, a block shape, labels with unlabelled voxels, and thresholds."""
    case = replace(draw(cases(largest=(4, 12, 14))), roi=None, masked=False)
    block_shape = draw(block_shapes(case.shape))
    labels = np.random.default_rng(case.seed).integers(-1, 4, case.shape).repeat(3, 2)
    labels = np.ascontiguousarray(labels[:, :, : case.shape[2]])
    labels.flat[-1] = 1
    possible = [t for t in (0.0, 0.1, 0.25, 0.5, 0.65, 0.9, 1.0) if t >= case.floor]
    return case, block_shape, labels, draw(st.lists(st.sampled_from(possible), max_size=4))


@settings(max_examples=15)
@given(drawn=drawn())
def test_generated_volumes(
    drawn: tuple[Case, tuple[int, int, int], Array, list[float]],
) -> None:
    """Ties, plateaus and small segments: the same scores, in the order that was asked for."""
    case, block_shape, labels, thresholds = drawn
    store = case.store(block_shape)
    expected = of_a_run(store, np.maximum(labels, 0), thresholds)
    assert scores_at(store.affinities, labels, thresholds, store.config) == expected


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ssem", ()),
        ("ssem", ("agglomerate.scoring=mean", "segment.min_voxels=200")),
        ("fibsem", ()),
        ("fibsem", ("agglomerate.scoring=mean", "fragments.boundary_weight=2.0")),
    ],
)
def test_a_real_volume(
    name: str, changes: tuple[str, ...], fib25_affinities: Array, fib25_labels: Array
) -> None:
    """A student's affinities, as serial sections and as an isotropic volume, in crooked blocks."""
    affinities = np.ascontiguousarray(fib25_affinities[:, :20, :110, :100])
    labels = fib25_labels[:20, :110, :100]
    store = MemoryStore(affinities, block_shape=(9, 61, 37))
    config = configs.load(name, ("segment.pyramid_levels=0", *changes))
    store.use(config)
    thresholds = [0.6, 0.1, 0.35, 0.8, 0.95, 0.6]
    found = scores_at(affinities, labels, thresholds, config)
    assert found == of_a_run(store, labels, thresholds)
    assert len({score.voi_sum for score in found}) == 5


@pytest.mark.parametrize(
    ("change", "threshold", "said"),
    [
        ("agglomerate.min_affinity=0.3", 0.25, "0.3"),
        ("agglomerate.min_affinity=0.3", 1.25, "0.3"),
        ("agglomerate.engine=waterz", 0.5, "waterz"),
    ],
)
def test_what_has_no_scores(change: str, threshold: float, said: str) -> None:
    """A threshold under which nothing was merged, and another engine, are refused."""
    config = configs.load("ssem", (change,))
    with pytest.raises(ConfigError, match=said):
        scores_at(np.zeros((3, 2, 4, 4), np.uint8), np.ones((2, 4, 4)), [0.5, threshold], config)


def test_labels_without_a_neuron() -> None:
    """Where no voxel is labelled there is nothing to compare."""
    config = configs.load("ssem")
    with pytest.raises(VolumeError, match="nothing is compared"):
        scores_at(np.zeros((3, 2, 4, 4), np.uint8), np.full((2, 4, 4), -1), [0.5], config)
