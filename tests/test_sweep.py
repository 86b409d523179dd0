"""A sweep says at once what cutting and scoring say one threshold after the other."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import real_run as real
from PIL import Image

from cadseg.blocks import Roi
from cadseg.evaluation import metrics
from cadseg.evaluation.curve import best
from cadseg.pipeline import run
from cadseg.pipeline.cli.parse import thresholds
from cadseg.pipeline.sweep import sweep
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from pathlib import Path

RANGE = "0.1:0.9:0.1"
SHAPE = (6, 42, 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Affinities, labels, and a finished run, which tests only read."""
    made = tmp_path_factory.mktemp("in")
    real.volume(made / "affs.zarr", real.affinities())
    z, y, x = np.indices(SHAPE)
    with h5py.File(made / "truth.h5", "w") as file:
        file["labels"] = 1 + (y // 9) * 50 + (x + z) // 8
        file["labels"][2:4, 10:30, 5:40] = 0
        file["flat"] = np.ones(SHAPE[1:], int)
        file["other"] = np.ones((6, 42, 47), int)
        file["nothing"] = np.zeros(SHAPE, int)
    real.segment(made / "affs.zarr", made / "o.zarr")
    real.segment(made / "affs.zarr", made / "begun.zarr", until="edges")
    return made


def everything(folder: Path) -> dict[str, bytes | None]:
    """All files and folders in `folder`, with content."""
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize(
    "changes",
    [
        ("agglomerate.scoring=median",),
        ("agglomerate.scoring=mean", "block_shape=[6, 42, 48]"),
        ("agglomerate.scoring=mean", "segment.min_voxels=60"),
        ("agglomerate.scoring=mean", "volume.roi=[[1, 6], [5, 30], [20, 47]]"),
    ],
)
def test_a_sweep_is_relabel_and_evaluate(
    changes: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    """At every threshold the scores are those of the segmentation cut there, to the last digit."""
    out, truth = tmp_path / "o.zarr", f"{folder / 'truth.h5'}:labels"
    real.segment(folder / "affs.zarr", out, *changes)
    before = everything(tmp_path)
    points = sweep(out, [0.9, 0.1, 0.35, 0.6, 0.8, 0.1], truth)
    domain = Store.open(out).grid.domain
    assert everything(tmp_path) == before
    assert [point.threshold for point in points] == [0.1, 0.35, 0.6, 0.8, 0.9]
    for point in points:
        run.relabel(out, point.threshold, real.HERE)
        assert point.scores == metrics.evaluate(str(out), truth, domain)
    assert len({point.scores.voi_sum for point in points}) > 3


def test_the_command_scores_a_part(folder: Path) -> None:
    """`cadseg evaluate --roi` scores that box alone, and names a text that is none."""
    out, truth = folder / "o.zarr", f"{folder / 'truth.h5'}:labels"
    said = real.cadseg("evaluate", out, truth, "--json", "--roi", "1:6,5:30,20:47")
    part = metrics.evaluate(str(out), truth, Roi((1, 5, 20), (6, 30, 47)))
    assert json.loads(said.out) == {"voi_sum": part.voi_sum, **asdict(part)}
    assert "accepted is z0:z1,y0:y1,x0:x1" in real.cadseg("evaluate", out, truth, "--roi", "3").err


def test_a_sweep_for_other_small_segments(folder: Path, tmp_path: Path) -> None:
    """With another smallest size the scores are those of the run relabelled with both numbers."""
    out, truth = shutil.copytree(folder / "o.zarr", tmp_path / "o.zarr"), folder / "truth.h5"
    before = sweep(out, [0.5, 0.8], f"{truth}:labels")
    points = sweep(out, [0.5, 0.8], f"{truth}:labels", min_voxels=100)
    assert [point.scores for point in points] != [point.scores for point in before]
    for point in points:
        run.relabel(out, point.threshold, real.HERE, min_voxels=100)
        assert point.scores == metrics.evaluate(str(out), f"{truth}:labels")


def test_the_command_shows_writes_and_draws(folder: Path, tmp_path: Path) -> None:
    """The table shown and the file hold all thresholds, the lowest VOI marked, and a picture."""
    table, plot, out = tmp_path / "scores.csv", tmp_path / "scores.png", folder / "o.zarr"
    truth = f"{folder / 'truth.h5'}:labels"
    before = everything(folder)
    said = real.cadseg(
        *("relabel", out, "--sweep", RANGE, "--ground-truth", truth),
        *("--table", table, "--plot", plot),
    )
    assert (said.code, said.err) == (0, "")
    assert everything(folder) == before
    points = sweep(out, thresholds(RANGE), truth)
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [float(row["threshold"]) for row in rows] == [point.threshold for point in points]
    for row, point in zip(rows, points, strict=True):
        values = [float(row[name]) for name in ("voi_split", "voi_merge", "voi_sum", "arand")]
        scores = point.scores
        assert values == [scores.voi_split, scores.voi_merge, scores.voi_sum, scores.arand]
    shown = said.out.splitlines()[1:]
    assert len(shown) == len(points) == 9
    marked = [line for line in shown if line.startswith("*")]
    assert len(marked) == 1
    lowest = min(point.scores.voi_sum for point in points)
    assert float(marked[0].split()[4]) == round(lowest, 3)
    assert best(points).scores.voi_sum == lowest
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.2:0.8:0.3", [0.2, 0.5, 0.8]),
        ("0.1:0.35:0.1", [0.1, 0.2, 0.3]),
        ("0.5:0.5:0.1", [0.5]),
        ("0:1:.5", [0, 0.5, 1]),
    ],
)
def test_a_range_is_meant_as_written(text: str, expected: list[float]) -> None:
    """Steps are tenths where tenths are written, and both ends belong to the range."""
    assert thresholds(text) == expected


TRUTH = "--ground-truth=truth.h5:labels"
SWEEP = ("relabel", "o.zarr", f"--sweep={RANGE}", TRUTH)
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "neither": (SWEEP[:2], ("--threshold", "--min-voxels", "--sweep")),
    "fewer than none": ((*SWEEP[:2], "--min-voxels=-1"), ("segment.min_voxels is -1", "0")),
    "both": ((*SWEEP, "--threshold=0.5"), ("--threshold", "--sweep")),
    "no truth": (SWEEP[:3], ("--ground-truth",)),
    "truth for one": ((*SWEEP[:2], "--threshold=0.5", TRUTH), ("--ground-truth", "--sweep")),
    "two numbers": ((*SWEEP[:2], "--sweep=0.2:0.8", TRUTH), ("0.2:0.8", "low:high:step")),
    "words": ((*SWEEP[:2], "--sweep=a:b:c", TRUTH), ("a:b:c", "low:high:step")),
    "not a number": ((*SWEEP[:2], "--sweep=0.2:nan:0.1", TRUTH), ("nan", "low:high:step")),
    "turned": ((*SWEEP[:2], "--sweep=0.8:0.2:0.1", TRUTH), ("0.8:0.2:0.1", "low:high:step")),
    "no step": ((*SWEEP[:2], "--sweep=0.2:0.8:0", TRUTH), ("0.2:0.8:0", "low:high:step")),
    "too far": ((*SWEEP[:2], "--sweep=0.2:1.2:0.1", TRUTH), ("0.2:1.2:0.1", "low:high:step")),
    "too fine": ((*SWEEP[:2], "--sweep=0.2:0.8:1e-9", TRUTH), ("1000 thresholds",)),
    "below the floor": (
        (*SWEEP[:2], "--sweep=0.05:0.8:0.05", TRUTH),
        ("0.05", "agglomerate.min_affinity, 0.1"),
    ),
    "another shape": (
        (*SWEEP[:3], "--ground-truth=truth.h5:other"),
        ("(6, 42, 48)", "(6, 42, 47)"),
    ),
    "two axes": ((*SWEEP[:3], "--ground-truth=truth.h5:flat"), ("(42, 48)", "z, y, x")),
    "all 0": ((*SWEEP[:3], "--ground-truth=truth.h5:nothing"), ("nothing is compared",)),
    "no such truth": ((*SWEEP[:3], "--ground-truth=none.zarr"), ("there is no volume",)),
    "unfinished": (("relabel", "begun.zarr", *SWEEP[2:]), ("no finished merge tree",)),
    "no run": (("relabel", "affs.zarr", *SWEEP[2:]), ("holds no run",)),
    "no folder": ((*SWEEP, "--table=none/t.csv"), ("none/t.csv", "no folder")),
    "no picture": ((*SWEEP, "--table=t.csv", "--plot=p.jpg"), ("p.jpg", ".png")),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake is named, with what was found and what is accepted; no file is touched."""
    monkeypatch.chdir(folder)
    command, parts = CASES[name]
    before = everything(folder)
    said = real.cadseg(*command)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("Error: ")
    assert said.err.count("\n") == 1
    assert [part for part in parts if part not in said.err] == [], said.err
    assert everything(folder) == before


WITHOUT = """
import sys
sys.modules["matplotlib"] = None  # importing it fails
from cadseg.pipeline.cli import main
plot = sys.argv.pop()
main()
sys.argv.append(plot)
main()
"""


def test_a_picture_alone_needs_its_library(folder: Path, tmp_path: Path) -> None:
    """Without the library for pictures a sweep works; only a picture is refused, and says why."""
    out = shutil.copytree(folder / "o.zarr", tmp_path / "o.zarr")
    words = ["relabel", out, "--sweep=0.5:0.6:0.1", f"--ground-truth={folder / 'truth.h5'}:labels"]
    program = [sys.executable, "-c", WITHOUT, *words, f"--plot={tmp_path / 'p.png'}"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (2, 3), done.stderr
    assert "cadseg[plot]" in done.stderr
    assert not (tmp_path / "p.png").exists()
