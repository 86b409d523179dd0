"""Trainings of seconds: bright cells with dark borders, and networks of a few channels."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch
import yaml

from cadseg import config as configs
from cadseg.models.training.objective import Objective
from cadseg.models.training.recipe import TrainConfig
from cadseg.pipeline import cli

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

RECIPE = Path(__file__).parents[1] / "configs" / "train-ssem.yaml"
CADSEG = [sys.executable, "-c", "from cadseg.pipeline import cli; cli.main()"]
Tree = dict[str, Any]

STUDENT: Tree = {
    "network": {"filters": 2, "embedding": 4, "align_corners": False},
    "weights": None,
}
TEACHER: Tree = {
    "network": {
        "widths": [2, 2, 3, 3, 4],
        "embedding": 4,
        "align_corners": False,
        "momentum": 0.1,
    },
    "weights": None,
    "learns": True,
}
ALONE: Tree = {
    "student": STUDENT,
    "teacher": None,
    "distillation": "off",
    "distillation_weight": 1.0,
    "fgi": "off",
    "fgi_weight": 1.0,
    "together_from": 0,
}
BOTH = ALONE | {"teacher": TEACHER, "distillation": "mutual", "fgi": "grafted", "together_from": 2}


def volume(path: Path, sections: int = 8) -> Path:
    """Write cells of 12 x 12 pixels, 72 x 72 in all, the same in every section."""
    labels = np.kron(np.arange(1, 37).reshape(6, 6), np.ones((12, 12), np.int64))
    raw = np.full_like(labels, 200)
    raw[::12] = raw[:, ::12] = raw[11::12] = raw[:, 11::12] = 40
    noise = np.random.default_rng(0).integers(0, 20, (sections, 72, 72))
    with h5py.File(path, "w") as file:
        file["raw"] = (raw + noise).astype(np.uint8)
        file["labels"] = np.broadcast_to(labels, (sections, 72, 72))
    return path


def tree(folder: Path) -> Tree:
    """A training that ends after six steps, on a volume in `folder`."""
    path = folder / "toy.h5"
    if not path.exists():
        volume(path)
    data = {"raw": f"{path}:raw", "labels": f"{path}:labels", "mask": None, "weight": 1}
    found: Tree = yaml.safe_load(RECIPE.read_text("utf-8"))
    found["augment"]["defects"] |= {"slip": 2, "drift": 2, "fold": 2.0}
    found["adam"] |= {"warmup": 1}
    found |= {"sections": 3, "width": 16, "batch": 2, "objective": ALONE, "steps": 6, "ema": 0.5}
    found["data"] = [data | {"sections": [0, 6]}]
    found["validation"] |= {"data": [data | {"sections": [6, 8]}], "thresholds": [0.3, 0.5, 0.7]}
    found |= {"device": "cpu", "precision": "float32", "threads": 1, "readers": 1}
    return found | {"checkpoint_every": 3, "log_every": 2}


def config(folder: Path, **changes: Any) -> TrainConfig:
    """That training, with changes."""
    return TrainConfig.model_validate(configs.tuples(tree(folder) | changes))


def written(folder: Path, **changes: Any) -> Path:
    """The same as a file."""
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(tree(folder) | changes), "utf-8")
    return path


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    """The lines of a table, but for the speed."""
    with (folder / f"{name}.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    return [{key: row[key] for key in row if key != "crops_per_second"} for row in found]


def outcome(folder: Path) -> tuple[Any, ...]:
    """All that a run leaves, but for what depends on time: weights by hash, and tables."""
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*.safetensors")
    }
    return hashes, rows(folder, "log"), rows(folder, "validation")


def environment() -> dict[str, str]:
    """For processes that import what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def ran(command: Sequence[str], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, to its end."""
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


def cadseg(monkeypatch: pytest.MonkeyPatch, *words: object) -> object:
    """The command line in this process; its exit code, None for 0."""
    monkeypatch.setattr(sys, "argv", ["cadseg", *map(str, words)])
    try:
        cli.main()
    except SystemExit as end:
        return end.code
    return None


class Stop(Exception):
    """Somebody pulls the plug."""


@contextlib.contextmanager
def plug(step: int) -> Iterator[None]:
    """Runs break off after the losses of that step."""
    seen = []

    def stop(module: torch.nn.Module, _inputs: Any, _losses: Any) -> None:
        if isinstance(module, Objective):
            seen.append(module)
            if len(seen) > step:
                raise Stop

    handle = torch.nn.modules.module.register_module_forward_hook(stop)
    try:
        yield
    finally:
        handle.remove()
