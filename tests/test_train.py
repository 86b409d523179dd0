"""Training, at toy size."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

from cadseg.errors import CadsegError, ConfigError
from cadseg.models import weights
from cadseg.models.pairs import Pairs
from cadseg.models.predict import predict_pairs
from cadseg.models.train import batch_of, learning_rate, load_config, supervised, train

DEFAULT = Path(__file__).parents[1] / "configs" / "train-default.yaml"


def log_of(folder):
    """The lines of a run's log."""
    return list(csv.DictReader((folder / "log.csv").read_text().splitlines()))


@pytest.fixture
def tree(tmp_path):
    """The default configuration, on a toy volume of bright cells with dark borders."""
    labels = np.kron(np.arange(1, 37).reshape(6, 6), np.ones((12, 12), np.int64))
    raw = np.full_like(labels, 200)
    raw[::12] = raw[:, ::12] = raw[11::12] = raw[:, 11::12] = 40
    with h5py.File(tmp_path / "toy.h5", "w") as file:
        file["raw"] = np.broadcast_to(raw, (4, 72, 72)).astype(np.uint8)
        file["labels"] = np.broadcast_to(labels, (4, 72, 72))
    changed = yaml.safe_load(DEFAULT.read_text())
    names = {"raw": "raw", "labels": "labels", "weight": 1}
    changed["volumes"] = [{"path": str(tmp_path / "toy.h5"), "sections": [0, 4], **names}]
    changed["student"] = {"filters": 2, "embedding": 4, "align_corners": False}
    changed |= {"crop": 32, "batch": 2, "steps": 6, "checkpoint_every": 3, "log_every": 2}
    return changed | {"threads": torch.get_num_threads(), "precision": "float32"}


def config(tree, folder, **changes):
    """`tree`, with changes, by way of a file."""
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump({**tree, **changes}))
    return load_config(path)


def test_default_config():
    """The default configuration is complete, and never learns from the sections that score."""
    default = load_config(DEFAULT)
    sections = {Path(v.path).parent.name: v.sections for v in default.volumes}
    assert sections == {"snemi3d_ac4": (0, 24), "fib25_medulla": (0, 120)}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"crop": 40}, "crop is 40.*multiple of 16"),
        ({"steps": "many"}, "steps is 'many'"),
        ({"speed": 3}, "speed is 3.*not permitted"),
        ({"student": {"filters": 2, "layers": 3}}, "student.layers"),
    ],
)
def test_config_is_strict(tree, tmp_path, changes, sentence):
    """A key that is unknown or out of range is named, with file and value."""
    with pytest.raises(ConfigError, match=sentence):
        config(tree, tmp_path, **changes)


def test_config_must_be_there(tmp_path):
    """A configuration file that is missing, or no YAML, is refused."""
    (tmp_path / "odd.yaml").write_text("a: [")
    for name in ("none.yaml", "odd.yaml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(tmp_path / name)


def test_a_batch_depends_on_seed_and_step_alone(tree, tmp_path):
    """Batches are the same in any order of asking, and different from step to step."""
    one = config(tree, tmp_path)
    other = config(tree, tmp_path, seed=2)
    pairs = Pairs(one.volumes)
    forward = [batch_of(one, pairs, step) for step in range(4)]
    backward = [batch_of(one, pairs, step) for step in reversed(range(4))][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert np.array_equal(a[0], b[0])
        assert np.array_equal(a[1], b[1])
    assert forward[0][0].shape == forward[0][1].shape == (2, 2, 32, 32)
    assert not np.array_equal(forward[0][0], forward[1][0])
    assert not np.array_equal(forward[0][0], batch_of(other, pairs, 0)[0])


def test_learning_rate_falls_to_zero(tree, tmp_path):
    """The learning rate begins at its value, never rises, and ends close to 0."""
    one = config(tree, tmp_path, steps=100)
    rates = [learning_rate(one, step) for step in range(100)]
    assert rates[0] == one.learning_rate
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < one.learning_rate / 1000


def test_weights_come_to_rest(tree, tmp_path):
    """The last step moves the weights far less than the first one."""
    seen = []

    def noted(student):
        seen.append(torch.cat([p.detach().flatten() for p in student.parameters()]))

    def watched(student, raw, labels):
        noted(student)
        return supervised(student, raw, labels)

    noted(weights.load(train(config(tree, tmp_path), tmp_path / "run", loss_of=watched)))
    moved = [float((b - a).norm()) for a, b in itertools.pairwise(seen)]
    assert len(moved) == 6
    assert 0 < moved[-1] < moved[0] / 4


class Stop(Exception):
    """Somebody pulls the plug."""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_stopped_ends_with_the_same_weights(tree, tmp_path, precision):
    """Stopping between checkpoints and going on gives the weights of a run that did not stop."""
    one = config(tree, tmp_path, precision=precision)
    calls = []

    def plug(*args):
        calls.append(args)
        if len(calls) == 5:
            raise Stop
        return supervised(*args)

    straight = train(one, tmp_path / "straight")
    with pytest.raises(Stop):
        train(one, tmp_path / "stopped", loss_of=plug)
    resumed = train(one, tmp_path / "stopped", resume=True)
    assert resumed.name == "step-000006.safetensors"
    assert weights.sha256(straight) == weights.sha256(resumed)
    assert weights.sha256(straight) != weights.sha256(straight.with_name("step-000003.safetensors"))


def test_a_finished_run_stays_as_it_is(tree, tmp_path):
    """Going on with a finished run changes nothing; beginning anew over it is refused."""
    one = config(tree, tmp_path, steps=2)
    before = weights.sha256(train(one, tmp_path / "run"))
    assert weights.sha256(train(one, tmp_path / "run", resume=True)) == before
    with pytest.raises(CadsegError, match="holds a training run"):
        train(one, tmp_path / "run")
    with pytest.raises(CadsegError, match="another configuration"):
        train(config(tree, tmp_path, steps=3), tmp_path / "run", resume=True)


def test_no_number_no_weights(tree, tmp_path):
    """A loss that is not a number stops the run with a sentence; nothing broken is saved."""
    one = config(tree, tmp_path)
    losses = iter([1.0, 1.0, 1.0, float("nan")])

    def broken(student, raw, labels):
        return supervised(student, raw, labels) * next(losses)

    with pytest.raises(CadsegError, match="the loss is nan at step 3"):
        train(one, tmp_path / "run", loss_of=broken)
    saved = weights.load(tmp_path / "run" / "step-000003.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.state_dict().values())


def test_log(tree, tmp_path, capsys):
    """Every line of the log has the step, the mean loss, the learning rate and the time."""
    train(config(tree, tmp_path), tmp_path / "run")
    rows = log_of(tmp_path / "run")
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert all(float(row["loss"]) > 0 and float(row["seconds"]) > 0 for row in rows)
    assert "step 6/6  loss" in capsys.readouterr().out


@pytest.mark.slow
def test_it_learns(tree, tmp_path):
    """After a minute at most, a student tells cells from their borders."""
    small = {"filters": 4, "embedding": 4, "align_corners": False}
    one = config(tree, tmp_path, student=small, steps=250, batch=4, log_every=50)
    student = weights.load(train(one, tmp_path / "run"))
    rows = log_of(tmp_path / "run")
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) / 2
    with h5py.File(tmp_path / "toy.h5") as file:
        raw = file["raw"][:2, :64, :64]
    affs = predict_pairs(student, raw[None])[0] / 255
    inside = np.tile(np.pad(np.ones((6, 6), bool), 3), (5, 5))
    cells, borders = affs[:, :60, :60][:, inside], affs[1, 12:60:12, 3:9]
    assert cells.mean() > borders.mean() + 0.4
