"""Level 0 does most of the work: what goes up the levels is a residue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from in_memory import MemoryStore

from cadseg.models import weights
from cadseg.models.predict import Predictor

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = 8


@pytest.mark.slow
def test_most_merges_are_made_at_level_0(shared_data: Path) -> None:
    """Blocks of 512 x 512 on whole sections of SNEMI3D make at least 70 % of all merges at once."""
    with h5py.File(shared_data / "snemi3d_ac4" / "train.h5", "r") as file:
        raw = file["raw"][:SECTIONS]
    predictor = Predictor(weights.find("default-ssem"))
    pairs = [np.stack([raw[max(0, z - 1)], raw[z]]) for z in range(SECTIONS)]
    affinities = np.concatenate([predictor(pair) for pair in pairs], 1)
    store = MemoryStore(affinities, block_shape=(40, 512, 512)).run_all()
    made = [store.column("merges", "fragment", level=level).size for level in (0, 1)]
    assert store.grid.top == 1
    assert made[0] >= 0.7 * sum(made), f"merges by level: {made}"
