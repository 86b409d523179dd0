"""The ablation, at toy size: every row in processes of its own, and the table made of them."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import yaml

SCRIPT = Path(__file__).parent / "benchmarks" / "ablation.py"
ROWS = ("student", "teacher", "mutual", "detached", "fgi-grafted", "fgi-released")
COLUMNS = ("loss", "voi_split", "voi_merge", "voi_sum")
STEPS = 20

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Ablation:
    """One that was killed after its first run, and started again."""

    folder: Path
    words: list[str]
    orphans: list[psutil.Process]
    first: dict[str, int]  # files of the first run, and when they were written, before the kill
    said: str
    table: str


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    """All rows for two seeds, on a toy volume of bright cells with dark borders."""
    toy, out = tmp_path_factory.mktemp("toy") / "toy.h5", tmp_path_factory.mktemp("runs")
    words = [sys.executable, str(SCRIPT), "--out", str(out), "--seeds", "2", *sets(toy)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as killed:
        assert killed.stderr
        assert killed.stderr.readline() == "student-1: done\n"
        workers = psutil.Process(killed.pid).children(recursive=True)
        killed.send_signal(signal.SIGKILL)
    orphans = still_alive(workers)
    first = written(out / "student-1")
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    return Ablation(out, words, orphans, first, again.stderr, again.stdout)


def still_alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended after a while; in a container nobody may bury the dead."""
    until = time.monotonic() + 10
    while processes and time.monotonic() < until:
        time.sleep(0.05)
        processes = [
            one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE
        ]
    return processes


def sets(toy: Path) -> list[str]:
    """Write a volume, and the smallest networks and crops that learn something from it."""
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((12, 12), np.int64))
    raw = np.full_like(labels, 200)
    raw[::12] = raw[:, ::12] = raw[11::12] = raw[:, 11::12] = 40
    with h5py.File(toy, "w") as file:
        file["raw"] = np.broadcast_to(raw, (8, 48, 48)).astype(np.uint8)
        file["labels"] = np.broadcast_to(labels, (8, 48, 48))
    data = {"raw": f"{toy}:raw", "labels": f"{toy}:labels", "mask": None, "weight": 1}
    values = {
        "data": [data | {"sections": [0, 6]}],
        "validation.data": [data | {"sections": [6, 8]}],
        "sections": 6,
        "width": 16,
        "batch": 1,
        "objective.student.network.filters": 2,
        "objective.student.network.embedding": 4,
        "objective.teacher.network.widths": [2, 2, 2, 2, 2],
        "objective.teacher.network.embedding": 4,
        "objective.teacher.network.momentum": 0.2,
        "adam.learning_rate": 0.02,
        "adam.warmup": 0,
        "ema": 0.0,
        "steps": STEPS,
        "checkpoint_every": STEPS,
        "log_every": STEPS,
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "readers": 1,
    }
    return [
        word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")
    ]


def written(folder: Path) -> dict[str, int]:
    """When each file of a folder was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def scored(ablation: Ablation, row: str, column: str) -> list[float]:
    """What the last checkpoints of a row have in a column, seed by seed."""
    files = [ablation.folder / f"{row}-{seed}" / "validation.csv" for seed in (1, 2)]
    tables = [list(csv.DictReader(file.read_text().splitlines())) for file in files]
    assert [rows[-1]["step"] for rows in tables] == [str(STEPS)] * 2
    return [float(rows[-1][column]) for rows in tables]


def test_killed_it_leaves_no_process_and_goes_on(ablation: Ablation) -> None:
    """Workers end with their parent; a run that was finished is not done again, the others are."""
    assert ablation.orphans == []
    assert written(ablation.folder / "student-1") == ablation.first
    done = ablation.said.split("\n")[:-1]
    assert done == [f"{row}-{seed}: done" for row in ROWS for seed in (1, 2)][1:]


def test_rows_differ_in_what_they_are_about(ablation: Ablation) -> None:
    """Every row has the networks and losses of its name, and everything else in common."""
    trees = [yaml.safe_load((ablation.folder / f"{row}-2.yaml").read_text()) for row in ROWS]
    objectives = [tree.pop("objective") for tree in trees]
    assert all(tree == trees[0] for tree in trees)
    assert trees[0]["seed"] == 2
    assert [one["student"] is None for one in objectives] == [False, True, *[False] * 4]
    assert [one["teacher"] is None for one in objectives] == [True, *[False] * 5]
    joint = [(one["distillation"], one["fgi"]) for one in objectives]
    assert joint == [
        ("off", "off"),
        ("off", "off"),
        ("mutual", "off"),
        ("detached", "off"),
        ("mutual", "grafted"),
        ("mutual", "released"),
    ]
    assert {one["together_from"] for one in objectives} == {STEPS // 20}


def test_table(ablation: Ablation) -> None:
    """Means, standard errors, and paired differences are those of the runs' own tables."""
    lines = ablation.table.split("\n\n")[0].splitlines()[2:]
    assert len(lines) == len(ROWS)
    for row, line in zip(ROWS, lines, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == "2"
        for column, cell in zip(COLUMNS, cells[2:6], strict=True):
            assert_shown(cell, scored(ablation, row, column))
        for column, place in (("voi_sum", 6), ("loss", 8)):
            if row == "student":
                assert cells[place : place + 2] == ["", ""]
                continue
            pairs = zip(*(scored(ablation, r, column) for r in (row, "student")), strict=True)
            differences = [ours - students for ours, students in pairs]
            assert_shown(cells[place], differences)
            spread = abs(differences[0] - differences[1])
            if spread < 1e-9:
                assert cells[place + 1] == ""
            else:  # of two differences: half their sum by half their distance
                ratio = sum(differences) / spread
                assert float(cells[place + 1]) == pytest.approx(ratio, abs=6e-3)
    assert len({tuple(scored(ablation, row, "loss")) for row in ROWS}) == len(ROWS)
    assert "±12.71" in ablation.table
    assert "1 degree of freedom" in ablation.table


def assert_shown(cell: str, pair: list[float]) -> None:
    """A cell is the mean of two numbers and its standard error, which is half their distance."""
    mean, error = (float(number) for number in cell.split(" ± "))
    assert mean == pytest.approx(sum(pair) / 2, abs=6e-5)
    assert error == pytest.approx(abs(pair[0] - pair[1]) / 2, abs=6e-5)


def test_a_folder_holds_one_ablation(ablation: Ablation) -> None:
    """Other numbers in the same folder are refused, and named."""
    words = [*ablation.words, "--set", "seed=7", "--set", "ema=0.5"]
    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "student-1.yaml is of another ablation" in refused.stderr
