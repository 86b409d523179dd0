"""Several processes that train one network."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING

import pytest
import torch
import toy_training as toy

from cadseg.errors import ConfigError
from cadseg.models import weights
from cadseg.models.training.batches import batch_of
from cadseg.models.training.crops import Crops
from cadseg.models.training.objective import Objective
from cadseg.models.training.processes import Process, process_group
from cadseg.models.training.train import learning_rate, optimiser_of

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.models.training.recipe import TrainConfig

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"]


def by_hand(config: TrainConfig) -> Objective:
    """Two replicas, each on its own crop; both learn from the mean of their gradients."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    first = Objective(config.objective, config.precision).train()
    replicas = [first, copy.deepcopy(first)]
    adams = [optimiser_of(replica, config) for replica in replicas]
    crops = Crops(config.data)
    for step in range(config.steps):
        for rank, replica in enumerate(replicas):
            batch = batch_of(config, crops, step, Process(rank, 2, torch.device("cpu")))
            together = step >= config.objective.together_from
            losses = replica(batch.raw_BDYX, batch.labels_BDYX, together=together)
            replica.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
        for one, other in zip(*(replica.parameters() for replica in replicas), strict=True):
            assert one.grad is not None
            assert other.grad is not None
            one.grad = other.grad = (one.grad + other.grad) / 2
        for adam in adams:
            adam.param_groups[0]["lr"] = learning_rate(config, step)
            adam.step()
    return first


def test_two_processes(tmp_path: Path) -> None:
    """Two processes learn what two replicas learn from the mean of their gradients."""
    changes = {"objective": toy.BOTH | {"together_from": 1}, "steps": 3, "ema": 0.0}
    config, recipe = toy.config(tmp_path, **changes), toy.written(tmp_path, **changes)
    command = [*TORCHRUN, "--nproc-per-node", "2", *toy.CADSEG, "train", str(recipe)]
    result = toy.ran([*command, "--out", str(tmp_path / "run")])
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("step 3/3") == 1
    objective = by_hand(config)
    for name, network in objective.networks().items():
        path = tmp_path / "run" / f"{name}-000003.safetensors"
        saved = weights.load(path).state_dict()
        learned = {key: value for key, value in network.state_dict().items() if "num_" not in key}
        for key, value in learned.items():
            assert torch.allclose(saved[key], value, rtol=1e-4, atol=1e-6), key


def test_a_batch_that_cannot_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every process has equally many crops, else the run is refused in a sentence."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"batch is 3, .* accepted are multiples of 2"):
        process_group("cpu", 3).__enter__()
    words = ("train", toy.written(tmp_path, batch=3), "--out", tmp_path / "run")
    assert toy.cadseg(monkeypatch, *words) == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: batch is 3, which 2 processes cannot share evenly")
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_one_process() -> None:
    """A process that torchrun did not start has the whole batch, and writes."""
    with process_group("cpu", 3) as process:
        assert process == Process(0, 1, torch.device("cpu"))
        assert process.writes
        network = torch.nn.Linear(1, 1)
        assert process.parallel(network) is network
