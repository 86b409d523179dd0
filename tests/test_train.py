"""The training loop, at toy size."""

from __future__ import annotations

import csv
import itertools
import math
from typing import TYPE_CHECKING, Any

import h5py
import pytest
import torch
import toy_training as toy

from cadseg.models import weights
from cadseg.models.predict import predicted
from cadseg.models.training.train import learning_rate, train

if TYPE_CHECKING:
    from pathlib import Path

RUNS: dict[str, dict[str, Any]] = {
    "student": {"objective": toy.ALONE},
    "student, bfloat16": {"objective": toy.ALONE, "precision": "bfloat16"},
    "both": {"objective": toy.BOTH},
    "both, bfloat16": {"objective": toy.BOTH, "precision": "bfloat16"},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_stopped_ends_like_one_that_did_not(tmp_path: Path, name: str) -> None:
    """Stopping between checkpoints and going on gives the same weights and the same tables."""
    config = toy.config(tmp_path, **RUNS[name])
    train(config, tmp_path / "straight")
    with toy.plug(4), pytest.raises(toy.Stop):
        train(config, tmp_path / "stopped")
    train(config, tmp_path / "stopped", resume=True)
    straight = toy.outcome(tmp_path / "straight")
    assert toy.outcome(tmp_path / "stopped") == straight
    hashes, log, validation = straight
    assert [row["step"] for row in log] == ["2", "3", "4", "6"]
    assert [row["step"] for row in validation] == ["3", "6"]
    networks = {"student", "teacher"} if "both" in name else {"student"}
    saved = {f"{network}-00000{step}.safetensors" for network in networks for step in (3, 6)}
    assert hashes.keys() == saved | {"best.safetensors"}
    assert len({hashes[file] for file in saved}) == len(saved)


def test_seed_decides(tmp_path: Path) -> None:
    """Two runs with one seed are equal, with another seed they differ from the first line on."""
    logs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(toy.config(tmp_path, seed=seed, steps=2), tmp_path / name)
        logs.append(toy.rows(tmp_path / name, "log"))
    assert logs[0] == logs[1]
    assert logs[0][0]["slice"] != logs[2][0]["slice"]


def test_learning_rate(tmp_path: Path) -> None:
    """It rises in a line over the warm-up, then falls along half a cosine to 0, or stays."""
    adam = toy.tree(tmp_path)["adam"] | {"learning_rate": 0.5}

    def rates(**changes: Any) -> list[float]:
        config = toy.config(tmp_path, steps=100, adam=adam | changes)
        return [learning_rate(config, step) for step in range(100)]

    assert rates(decay="none", warmup=0) == [0.5] * 100
    assert rates(decay="none", warmup=3) == pytest.approx([0.125, 0.25, 0.375] + [0.5] * 97)
    falling = rates(decay="cosine", warmup=0)
    assert falling[0] == 0.5
    assert falling[50] == pytest.approx(0.25)
    assert falling[25] == pytest.approx(0.25 * (1 + math.sqrt(0.5)))
    assert falling == sorted(falling, reverse=True)
    assert 0 < falling[-1] < 0.5 / 1000
    assert rates(decay="cosine", warmup=3)[3:] == falling[3:]


def test_weights_come_to_rest(tmp_path: Path) -> None:
    """With a cosine, the last step moves the weights far less than the one before the middle."""
    train(toy.config(tmp_path, ema=0.0, checkpoint_every=1), tmp_path / "run")
    saved = [weights.load(tmp_path / "run" / f"student-00000{n}.safetensors") for n in range(1, 7)]
    flat = [torch.cat([p.detach().flatten() for p in student.parameters()]) for student in saved]
    moved = [float((b - a).norm()) for a, b in itertools.pairwise(flat)]
    assert 0 < moved[-1] < moved[0] / 4


def test_averages(tmp_path: Path) -> None:
    """Saved weights are a running average of those that learn; without memory, they are these."""

    def states(ema: float) -> list[dict[str, torch.Tensor]]:
        folder = tmp_path / f"{ema}"
        train(toy.config(tmp_path, ema=ema, steps=4, checkpoint_every=1), folder)
        files = [folder / f"student-00000{step}.safetensors" for step in range(1, 5)]
        last = torch.load(folder / "state.pt", weights_only=True)["objective"]
        found = weights.load(files[-1]).state_dict()
        equal = all(
            torch.equal(last[f"student.{name}"], found[name])
            for name in found
            if "num_batches" not in name
        )
        assert equal == (ema == 0)
        return [weights.load(file).state_dict() for file in files]

    learned, averaged = states(0.0), states(0.75)
    for name, value in learned[0].items():
        expected = value.double()
        for now, found in zip(learned, averaged, strict=True):
            expected = 0.75 * expected + 0.25 * now[name].double()
            assert torch.allclose(found[name].double(), expected, rtol=1e-4, atol=1e-7), name


def test_best_weights(tmp_path: Path) -> None:
    """The best weights are those of the checkpoint with the lowest VOI."""
    folder, tree = tmp_path / "run", toy.tree(tmp_path)
    changes: dict[str, Any] = {"steps": 8, "checkpoint_every": 1, "ema": 0.0, "seed": 2}
    changes["adam"] = tree["adam"] | {"learning_rate": 0.1, "decay": "none"}
    changes["validation"] = tree["validation"] | {"thresholds": [0.8, 0.9, 0.97]}
    train(toy.config(tmp_path, **changes), folder)
    table = toy.rows(folder, "validation")
    scores = {int(row["step"]): float(row["voi_sum"]) for row in table}
    assert len(set(scores.values())) > 1
    lowest = min(scores.values())
    step = max(step for step, score in scores.items() if score == lowest)
    best = (folder / "best.safetensors").read_bytes()
    assert best == (folder / f"student-{step:06d}.safetensors").read_bytes()


def test_a_teacher_alone(tmp_path: Path) -> None:
    """Without a student the teacher is what is validated, and it is saved."""
    alone = toy.ALONE | {"student": None, "teacher": toy.TEACHER}
    train(toy.config(tmp_path, objective=alone, steps=2), tmp_path / "run")
    saved = {path.name for path in (tmp_path / "run").glob("*.safetensors")}
    assert saved == {"teacher-000002.safetensors", "best.safetensors"}
    weights.load(tmp_path / "run" / "best.safetensors")
    assert len(toy.rows(tmp_path / "run", "validation")) == 1


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    """After a minute at most, a student tells cells from their borders."""
    student = toy.STUDENT | {"network": toy.STUDENT["network"] | {"filters": 4}}
    changes: dict[str, Any] = {"objective": toy.ALONE | {"student": student}, "batch": 4}
    changes |= {"steps": 200, "checkpoint_every": 100, "log_every": 20, "width": 32, "ema": 0.9}
    changes["adam"] = toy.tree(tmp_path)["adam"] | {"learning_rate": 0.005}
    train(toy.config(tmp_path, **changes), tmp_path / "run")
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        log = list(csv.DictReader(file))
    assert float(log[-1]["slice"]) < float(log[0]["slice"]) / 2
    scores = toy.rows(tmp_path / "run", "validation")
    assert float(scores[-1]["voi_sum"]) < 1  # 6 in the beginning
    with h5py.File(tmp_path / "toy.h5") as file:
        raw = file["raw"][6:8, :64, :64]
    trained = weights.load(tmp_path / "run" / "best.safetensors")
    affs = predicted(trained, raw)[:, 0] / 255
    inside, borders = affs[:, 15:21, 15:21], affs[1, 12:60:12, 15:21]
    assert inside.mean() > borders.mean() + 0.4


@pytest.mark.slow
def test_compiled(tmp_path: Path) -> None:
    """Compiled networks have nearly the same losses (in a process whose warnings are no errors)."""
    changes: dict[str, Any] = {"steps": 2, "log_every": 1, "checkpoint_every": 2}
    train(toy.config(tmp_path, **changes), tmp_path / "eager")
    path = toy.written(tmp_path, compile=True, **changes)
    command = [*toy.CADSEG, "train", str(path), "--out", str(tmp_path / "compiled")]
    done = toy.ran(command, timeout=600)
    assert done.returncode == 0, done.stderr
    eager, compiled = (
        [float(row["slice"]) for row in toy.rows(tmp_path / name, "log")]
        for name in ("eager", "compiled")
    )
    assert compiled == pytest.approx(eager, rel=1e-3)
