"""Laws 1 and 5, and levels, on 20 x 1024 x 1024 voxels of SNEMI3D as the default student sees them.

Sections are whole, so that fragments and segments are as long and as many as they are in a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import waterz
from in_memory import MemoryStore

from cadseg.agglomeration.scoring import METHODS
from cadseg.evaluation import metrics
from cadseg.models import weights
from cadseg.models.predict import Predictor

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.blocks import Zyx

Array = np.ndarray[Any, Any]
pytestmark = pytest.mark.slow

SECTIONS = 20
THRESHOLD = 0.45
WATERZ = {
    "mean": "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>",
    "median": "OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256, true>>",
}


@pytest.fixture(scope="module")
def affinities(shared_data: Path) -> Array:
    """[3, 20, 1024, 1024] uint8."""
    with h5py.File(shared_data / "snemi3d_ac4" / "train.h5") as file:
        raw = file["raw"][:SECTIONS]
    predictor = Predictor(weights.find("default-ssem"), threads=2)
    pairs = ((raw[max(z, 1) - 1], raw[z]) for z in range(len(raw)))
    return np.concatenate([predictor(np.stack(pair)) for pair in pairs], 1)


def store(affinities: Array, block_shape: Zyx, scoring: str) -> MemoryStore:
    """The volume, segmented."""
    overrides = (f"agglomerate.scoring={scoring}", f"segment.threshold={THRESHOLD}")
    return MemoryStore(affinities, block_shape=block_shape, overrides=overrides).run_all()


@pytest.fixture(scope="module", params=METHODS)
def whole(request: pytest.FixtureRequest, affinities: Array) -> tuple[str, MemoryStore]:
    """The scoring, and the volume in one block."""
    return request.param, store(affinities, (SECTIONS, 1024, 1024), request.param)


@pytest.mark.parametrize("block_shape", [(SECTIONS, 512, 512), (9, 300, 700)])
def test_cutting_it_changes_nothing(whole: tuple[str, MemoryStore], block_shape: Zyx) -> None:
    """Fragments, edges, merges and segments are the same bytes, cut along its middle or crooked."""
    scoring, one = whole
    for name, cut in store(one.affinities, block_shape, scoring).results.items():
        np.testing.assert_array_equal(cut, one.results[name], name)


def test_it_is_what_waterz_finds(whole: tuple[str, MemoryStore]) -> None:
    """The mean's few ties move nothing; the median's, which waterz breaks by ids, a little.

    With its fragments' ids permuted, waterz itself moves by 3.5 bits here: at this threshold a few
    ties decide whether large segments run together.
    """
    scoring, one = whole
    ours = one.arrays["segmentation/0"]
    names = np.unique(one.arrays["fragments"])
    numbers = (np.searchsorted(names, one.arrays["fragments"]) + 1).astype(np.uint64)
    theirs = by_waterz(one.affinities, numbers, scoring)
    assert apart(ours, theirs) < (0.01 if scoring == "mean" else 0.15)


def test_most_merges_are_made_at_level_0(affinities: Array) -> None:
    """Blocks of 512 x 512 make at least 70 % of all merges at once: what goes up is a residue."""
    cut = store(affinities[:, :8], (8, 512, 512), "median")
    made = [cut.column("merges", "fragment", level=level).size for level in (0, 1)]
    assert cut.grid.top == 1
    assert made[0] >= 0.7 * sum(made), f"merges by level: {made}"


def by_waterz(affinities: Array, numbers: Array, scoring: str) -> Array:
    """Segments, by waterz; numbers are 1, 2, ..."""
    (found,) = waterz.agglomerate(
        affinities.astype(np.float32) / np.float32(255),
        [1 - THRESHOLD],
        fragments=np.ascontiguousarray(numbers),
        scoring_function=WATERZ[scoring],
    )
    return np.asarray(found).copy()


def apart(one: Array, other: Array) -> float:
    """VOI of two segmentations, in bits."""
    found = metrics.scores(metrics.contingency(one, other))
    return found.voi_split + found.voi_merge
