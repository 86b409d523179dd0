"""Batches depend on seed and step alone, not on readers, processes or where a run resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
import toy_training as toy

from cadseg.models.training.batches import Batch, batch_of, batches
from cadseg.models.training.crops import Crops
from cadseg.models.training.processes import Process

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.models.training.recipe import TrainConfig

ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """A batch of four crops, changed as much as the recipe has it."""
    return toy.config(tmp_path, batch=4)


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches hold the same crops, in the same order."""
    pairs = ((one.raw_BDYX, other.raw_BDYX), (one.labels_BDYX, other.labels_BDYX))
    return all(torch.equal(*pair) for pair in pairs) and one.origins == other.origins


def test_a_batch_depends_on_seed_and_step_alone(config: TrainConfig) -> None:
    """Batches are the same in any order of asking, and different from step to step."""
    crops = Crops(config.data)
    forward = [batch_of(config, crops, step, ALONE) for step in range(4)]
    backward = [batch_of(config, crops, step, ALONE) for step in reversed(range(4))][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    assert forward[0].raw_BDYX.shape == forward[0].labels_BDYX.shape == (4, 3, 16, 16)
    assert forward[0].raw_BDYX.dtype == torch.float32
    assert 0 <= forward[0].raw_BDYX.min() < 0.5 < forward[0].raw_BDYX.max() <= 1
    seen = [crop for batch in forward for crop in batch.raw_BDYX]
    assert len({crop.numpy().tobytes() for crop in seen}) == 16
    other = config.model_copy(update={"seed": 2})
    assert not same(forward[0], batch_of(other, crops, 0, ALONE))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_a_batch(config: TrainConfig, processes: int) -> None:
    """However many processes share a batch, together they see the crops of it, each once."""
    crops = Crops(config.data)
    whole = batch_of(config, crops, 5, ALONE)
    for rank in range(processes):
        part = batch_of(config, crops, 5, Process(rank, processes, torch.device("cpu")))
        assert torch.equal(part.raw_BDYX, whole.raw_BDYX[rank::processes])
        assert torch.equal(part.labels_BDYX, whole.labels_BDYX[rank::processes])
        assert part.origins == whole.origins[rank::processes]


@pytest.mark.parametrize("readers", [1, 3])
def test_made_ahead(config: TrainConfig, readers: int) -> None:
    """A run that resumes sees the same batches, in order, however many threads make them."""
    changed = config.model_copy(update={"readers": readers, "steps": 9})
    crops = Crops(config.data)
    for first in (0, 4, 8, 9):
        found = list(batches(changed, crops, first, ALONE))
        assert [step for step, _ in found] == list(range(first, 9))
        assert all(same(batch, batch_of(config, crops, step, ALONE)) for step, batch in found)


def test_origins(tmp_path: Path) -> None:
    """Where nothing is changed, a crop is what lies in the file where its origin says."""
    tree = toy.tree(tmp_path)
    shares = ("flip", "rotate", "rescale", "elastic", "grey")
    kinds = ("missing", "dark", "blurred", "slipped", "drifted", "folded")
    still: dict[str, Any] = tree["augment"] | dict.fromkeys(shares, 0.0)
    still["defects"] = still["defects"] | dict.fromkeys(kinds, 0.0)
    tree["data"][0]["sections"] = [2, 8]
    config = toy.config(tmp_path, augment=still, data=tree["data"])
    with h5py.File(tmp_path / "toy.h5") as file:
        raw = file["raw"][:]
    crops = Crops(config.data)
    for step in range(20):
        batch = batch_of(config, crops, step, ALONE)
        for crop, origin in zip(batch.raw_BDYX, batch.origins, strict=True):
            z, y, x = origin.begin
            expected = raw[z : z + 3, y : y + 16, x : x + 16]
            assert origin.raw == f"{tmp_path / 'toy.h5'}:raw"
            assert np.array_equal(crop.numpy(), expected.astype(np.float32) / 255)
