"""Recipes for trainings, and the command that follows them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy_training as toy
import yaml

from cadseg.config import builtin_names
from cadseg.models import weights
from cadseg.models.training import recipe
from cadseg.models.training.recipe import TrainConfig

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
RECIPES = sorted(toy.RECIPE.parent.glob("train-*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_that_ship(path: Path) -> None:
    """Every recipe loads by name, and neither trains nor validates on the test sections."""
    assert path.stem in builtin_names(training=True)
    config = recipe.load(path.stem)
    limits = {"snemi3d_ac4": (24, 32), "fib25_medulla": (120, 160)}
    for data in config.data:
        last = limits[Path(data.raw).parent.name][0]
        assert data.sections is not None
        assert data.sections[1] <= last
    for data in config.validation.data:
        learned, chosen = limits[Path(data.raw).parent.name]
        assert data.sections is not None
        assert data.sections[0] >= learned
        assert data.sections[1] <= chosen


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_complete(path: Path) -> None:
    """Every key of a recipe is written out, down to the networks' own."""
    written = yaml.safe_load(path.read_text("utf-8"))
    assert recipe.load(str(path)).model_dump(mode="json") == written


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["width=40"], "width is 40; accepted is a multiple of 16"),
        (["steps=many"], "steps is 'many'; accepted is a valid integer"),
        (["sections=1"], "sections is 1; accepted is greater than or equal to 2"),
        (["ema=1.0"], "ema is 1.0; accepted is less than 1"),
        (["adam.learning_rate=.inf"], "adam.learning_rate is inf; accepted is a finite number"),
        (["adam.weight_decay=.inf"], "adam.weight_decay is inf; accepted is a finite number"),
        (["adam.decay=line"], "adam.decay is 'line'; accepted is 'cosine' or 'none'"),
        (["speed=3"], "there is no key speed; accepted are adam, augment"),
        (["objective.fgi=grafted"], "distillation and fgi need a student and a teacher"),
        (["objective.student={}"], "objective.student.network is missing"),
        pytest.param(["device=cuda"], "device is cuda, but PyTorch finds no GPU", marks=NO_GPU),
        (["data=[]"], "data is ()"),
        (["validation.config=nothing"], "config nothing: no such file"),
        (["validation.thresholds=[0.01]"], "threshold 0.01: accepted are affinities from"),
        (
            ["data=[{raw: no.h5:a, labels: no.h5:b, mask: null, sections: null, weight: 1}]"],
            "raw no.h5: cannot be opened",
        ),
    ],
    ids=lambda value: value[0].partition("=")[0] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_told_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: list[str],
    sentence: str,
) -> None:
    """A wrong key, network, device or volume is one sentence, and the folder is not even made."""
    sets = [word for change in changes for word in ("--set", change)]
    out = tmp_path / "run"
    words = ("train", toy.written(tmp_path), "--out", out, *sets)
    assert toy.cadseg(monkeypatch, *words) == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: ")
    assert sentence in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cadseg train` trains, refuses to begin again, and goes on with --resume."""
    words = ("train", toy.written(tmp_path), "--out", tmp_path / "run", "--set", "steps=2")
    assert not toy.cadseg(monkeypatch, *words)
    assert "step 2/2" in capsys.readouterr().out
    weights.load(tmp_path / "run" / "student-000002.safetensors")
    assert toy.cadseg(monkeypatch, *words) == 2
    assert "go on with it by --resume" in capsys.readouterr().err
    assert not toy.cadseg(monkeypatch, *words, "--resume")
    assert toy.cadseg(monkeypatch, *words, "--set", "seed=5", "--resume") == 2
    assert "another configuration" in capsys.readouterr().err


def test_a_loss_that_is_not_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A learning rate that is far too high ends in one sentence, which says what to try."""
    words = ("train", toy.written(tmp_path), "--out", tmp_path / "run")
    assert toy.cadseg(monkeypatch, *words, "--set", "adam.learning_rate=1.0e+30") == 2
    told = capsys.readouterr().err
    assert "is not a number at step" in told
    assert "try a smaller adam.learning_rate than 1e+30" in told
    assert told.count("\n") == 1
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_a_config_says_all(tmp_path: Path) -> None:
    """A config written as JSON and read again is the same config."""
    config = toy.config(tmp_path, objective=toy.BOTH)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
