"""The log of a training run, and its errors when a loss or a weight is not finite."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
import toy_training as toy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from cadseg.errors import CadsegError
from cadseg.evaluation.curve import SCORES, Point
from cadseg.evaluation.metrics import Scores
from cadseg.models import weights
from cadseg.models.training.crops import Origin
from cadseg.models.training.log import LOG_COLUMNS, VALIDATION_COLUMNS, TrainingLog
from cadseg.models.training.processes import Process
from cadseg.models.training.train import train
from cadseg.models.training.validate import Validation

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.blocks import Zyx

FIRST = Process(0, 1, torch.device("cpu"))
SECOND = Process(1, 2, torch.device("cpu"))


def board(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows: numbers by step, by name."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: {event.step: event.value for event in events.Scalars(name)}
        for name in events.Tags()["scalars"]
    }


def validation(voi: float) -> Validation:
    """Scores with that sum of VOI."""
    scores = Scores(voi_split=voi, voi_merge=0.0, arand=0.1, voxels=10)
    return Validation((Point(0.5, scores),), 2.0)


def origins(*places: Zyx) -> tuple[Origin, ...]:
    """Of crops of one volume."""
    return tuple(Origin("a.h5:raw", place) for place in places)


def noted(log: TrainingLog, step: int, **losses: float) -> None:
    """A step of two crops."""
    found = {name: torch.tensor(loss) for name, loss in losses.items()}
    log.add_losses(step, found, origins((step, 0, 0), (step, 5, -6)))


def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables have all columns, TensorBoard the same numbers, the terminal a line for each line."""
    folder = tmp_path / "run"
    train(toy.config(tmp_path, objective=toy.BOTH), folder)
    shown = board(folder)
    for name, columns in (("log", LOG_COLUMNS), ("validation", VALIDATION_COLUMNS)):
        with (folder / f"{name}.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert list(table[0]) == ["step", *columns]
        assert [int(row["step"]) for row in table] == ([2, 3, 4, 6] if name == "log" else [3, 6])
        for column in columns:
            cells = {int(row["step"]): float(row[column]) for row in table if row[column]}
            assert shown.pop(f"{name}/{column}") == pytest.approx(cells, rel=1e-5)
    assert not shown
    assert set(SCORES) < set(VALIDATION_COLUMNS)
    # these two begin to learn from each other at step 2, which is the third
    log = toy.rows(folder, "log")
    assert [bool(row["distillation"]) for row in log] == [False, True, True, True]
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"step 6/6  slice \d\.\d{4}  teacher [\d.]+  distillation [\d.]+  fgi [\d.]+  "
        r"VOI \d\.\d{3}  \d+\.\d crops/s  0:00:00 left",
        last,
    )


def test_a_line_has_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loss in the log is the mean over the steps that had it since the last line."""
    log = TrainingLog(toy.config(tmp_path, steps=10**6), tmp_path, 0, FIRST)
    network = nn.Linear(1, 1)
    noted(log, 0, slice=1.0)
    noted(log, 1, slice=2.0, teacher=5.0)
    log.write_line(2, 0.125, network)
    noted(log, 2, slice=7.0, teacher=8.0)
    log.write_line(3, 0.25, network)
    log.close()
    table = toy.rows(tmp_path, "log")
    assert [row["slice"] for row in table] == ["1.5", "7"]
    assert [row["teacher"] for row in table] == ["5", "8"]
    assert [row["learning_rate"] for row in table] == ["0.125", "0.25"]
    with (tmp_path / "log.csv").open(newline="") as file:
        speed = float(list(csv.DictReader(file))[-1]["crops_per_second"])
    line = capsys.readouterr().out.splitlines()[-1]
    hours, minutes, seconds = map(int, line.split()[-2].split(":"))
    left = (10**6 - 3) * 2 / speed
    assert hours * 3600 + minutes * 60 + seconds == pytest.approx(left, rel=0.01, abs=1)


def test_the_best(tmp_path: Path) -> None:
    """Scores are the best if no VOI before was lower, lines before a resumed run included."""
    config = toy.config(tmp_path)
    log = TrainingLog(config, tmp_path, 0, FIRST)
    scores = enumerate((1.0, 2.0, 0.5, 0.75, 0.5), start=1)
    assert [log.write_validation(n, validation(voi)) for n, voi in scores] == [
        True,
        False,
        True,
        False,
        True,
    ]
    log.close()
    log = TrainingLog(config, tmp_path, 2, FIRST)
    assert not log.write_validation(3, validation(1.5))
    assert log.write_validation(4, validation(0.875))
    log.close()


def test_lines_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    """A resumed run deletes the lines after its checkpoint, in every table."""
    config = toy.config(tmp_path)
    first = TrainingLog(config, tmp_path, 0, FIRST)
    for step in range(12):
        noted(first, step, slice=1.0)
        first.write_line(step + 1, 0.1, nn.Linear(1, 1))
        first.write_validation(step + 1, validation(1.0))
    # never closed, as if the process had been killed
    log = TrainingLog(config, tmp_path, 9, FIRST)
    noted(log, 9, slice=2.0)
    log.write_line(10, 0.1, nn.Linear(1, 1))
    log.close()
    log = {row["step"]: row["slice"] for row in toy.rows(tmp_path, "log")}
    assert log == {str(step): "1" for step in range(1, 10)} | {"10": "2"}
    assert [row["step"] for row in toy.rows(tmp_path, "validation")] == [
        str(step) for step in range(1, 10)
    ]
    assert board(tmp_path)["log/slice"] == {int(step): float(log[step]) for step in log}
    first.close()


def test_other_processes_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only rank 0 writes tables and prints; any process names the crops of a broken loss."""
    config = toy.config(tmp_path)
    folder = tmp_path / "run"
    log = TrainingLog(config, folder, 0, SECOND)
    noted(log, 0, slice=1.0)
    log.write_line(1, 0.1, nn.Linear(1, 1))
    assert not folder.exists()
    assert not capsys.readouterr().out
    folder.mkdir()
    noted(log, 1, slice=float("nan"))
    with pytest.raises(CadsegError):
        log.write_line(2, 0.1, nn.Linear(1, 1))
    log.close()
    assert [path.name for path in folder.iterdir()] == ["failed-000001-1.json"]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("what", ["loss", "weight"])
def test_what_is_not_a_number_is_told(tmp_path: Path, what: str, broken: float) -> None:
    """A loss or a weight that is not a number stops the run, with the step and its crops."""
    log = TrainingLog(toy.config(tmp_path), tmp_path, 0, FIRST)
    network = nn.Linear(1, 1)
    for step in range(4):
        noted(log, step, slice=broken if (what, step) == ("loss", 2) else 1.5, fgi=2.0)
    if what == "weight":
        nn.init.constant_(network.bias, broken)
    step = 2 if what == "loss" else 3  # weights are looked at after the last step
    path = tmp_path / f"failed-00000{step}-0.json"
    sentence = rf"^a {what} is not a number at step {step} .*{re.escape(str(path))} says where"
    with pytest.raises(CadsegError, match=sentence):
        log.write_line(4, 0.1, network)
    log.close()
    crops = [{"raw": "a.h5:raw", "begin": [step, *place]} for place in ([0, 0], [5, -6])]
    losses = {"slice": str(broken) if what == "loss" else "1.5", "fgi": "2.0"}
    assert json.loads(path.read_text()) == {"step": step, "losses": losses, "crops": crops}
    assert not toy.rows(tmp_path, "log")


def test_broken_weights_are_never_saved(tmp_path: Path) -> None:
    """A run that breaks at some step keeps its last checkpoint, whose weights are finite."""
    # a loss beyond what float32 can hold, from step 4 on
    changes: dict[str, Any] = {"objective": toy.BOTH | {"together_from": 4, "fgi_weight": 1e38}}
    config = toy.config(tmp_path, **changes, log_every=100)
    messages = []
    for resume in (False, True):
        with pytest.raises(CadsegError, match="is not a number at step 4") as caught:
            train(config, tmp_path / "run", resume=resume)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    (path,) = (tmp_path / "run").glob("failed-*.json")
    told = json.loads(path.read_text())
    assert told["step"] == 4
    assert len(told["crops"]) == config.batch
    names = {path.name for path in (tmp_path / "run").glob("student-*")}
    assert names == {"student-000003.safetensors"}
    student = weights.load(tmp_path / "run" / "student-000003.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in student.state_dict().values())
