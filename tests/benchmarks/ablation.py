"""What each part of the method is worth: runs with and without it, over several seeds.

    python tests/benchmarks/ablation.py --out DIR [--config train-ssem] [--seeds 5]
        [--set KEY=VALUE ...] [--jobs N] [--rows NAME ...]

A run is a complete config, DIR/<row>-<seed>.yaml, and a folder of the same name beside it: the base
config, with the teacher and the crops of train-teacher in every row (a student alone would rather
have other crops, but then rows would differ in two things), and what `ROWS` says. Where both
networks learn, they start from scratch, and take from each other after a twentieth of all steps, as
with the authors. `--set` changes all rows that have the key.

N processes train at once, one run after the other. Killed and started again with the same command,
it goes on. In the end it prints a table of the scores of the last checkpoints; VOI is that of the
threshold which is best for the run, on the sections that validate.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import signal
import statistics
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import yaml
from scipy.stats import t

from cadseg import config as configs
from cadseg.errors import CadsegError

ROWS: dict[str, dict[str, str | None]] = {
    "student": {"teacher": None},
    "teacher": {"student": None},
    "mutual": {"distillation": "mutual"},
    "detached": {"distillation": "detached"},
    "fgi-grafted": {"distillation": "mutual", "fgi": "grafted"},
    "fgi-released": {"distillation": "mutual", "fgi": "released"},
}
"""What each row has otherwise than the base config, of its objective."""

TITLES = {
    "student": "student alone",
    "teacher": "teacher alone",
    "mutual": "+ distillation, mutual",
    "detached": "+ distillation, detached",
    "fgi-grafted": "+ distillation, mutual, + FGI, grafted",
    "fgi-released": "+ distillation, mutual, + FGI, released",
}

SCORES = {"loss": "loss", "voi_split": "VOI split", "voi_merge": "merge", "voi_sum": "sum"}
COMPARED = ("voi_sum", "loss")

ROUNDING = 1e-9
"""Differences that spread less than this are equal."""

Scores = dict[str, dict[int, dict[str, float]]]  # by row and seed


def main() -> None:
    """Do what is left to do, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", default="train-ssem")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to tidy up: runs go on
    try:
        runs = {
            (row, seed): written(asked.out / f"{row}-{seed}.yaml", tree)
            for row in asked.rows
            for seed in range(1, asked.seeds + 1)
            for tree in [tree_of(row, seed, asked.config, asked.sets)]
        }
    except CadsegError as error:
        sys.exit(f"Error: {error}")
    failed = train_all([path for path in runs.values() if not finished(path)], asked.jobs)
    scores: Scores = {row: {} for row in asked.rows}
    for (row, seed), path in runs.items():
        if finished(path):
            scores[row][seed] = last_scores(path)
    print(table(scores))
    sys.exit(1 if failed else 0)


def tree_of(row: str, seed: int, config: str, sets: list[str]) -> dict[str, Any]:
    """The complete config of a run."""
    in_all = [override for override in sets if override.startswith("steps=")]
    steps = configs.read(config, in_all, training=True)["steps"]
    authors = configs.read("train-teacher", training=True)
    keys = {key: authors[key] for key in ("sections", "width", "batch")}
    keys["objective.teacher"] = authors["objective"]["teacher"]
    keys["objective.together_from"] = steps // 20
    keys |= {f"objective.{key}": value for key, value in ROWS[row].items()}
    absent = tuple(f"objective.{key}." for key, value in ROWS[row].items() if value is None)
    overrides = [f"{key}={json.dumps(value)}" for key, value in keys.items()]
    overrides += [override for override in sets if not override.startswith(absent or "\n")]
    return configs.read(config, [*overrides, f"seed={seed}"], training=True)


def written(path: Path, tree: dict[str, Any]) -> Path:
    """Write a config, unless it is there.

    Raises:
        CadsegError: another one is there.
    """
    text = yaml.safe_dump(tree, sort_keys=False)
    if path.exists() and path.read_text("utf-8") != text:
        raise CadsegError(f"{path} is of another ablation than this one; choose a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def finished(path: Path) -> bool:
    """Whether the run of a config has its last weights."""
    steps = yaml.safe_load(path.read_text("utf-8"))["steps"]
    return any(path.with_suffix("").glob(f"*-{steps:06d}.safetensors"))


def train_all(paths: list[Path], jobs: int) -> int:
    """Train all configs, `jobs` at once; how many of them failed."""
    failed = 0
    with ProcessPoolExecutor(jobs, get_context("spawn"), _end_with_parent) as pool:
        names = {pool.submit(_train, path): path.stem for path in paths}
        for future in as_completed(names):
            error = future.result()
            failed += error is not None
            print(f"{names[future]}: {error or 'done'}", file=sys.stderr, flush=True)
    return failed


def last_scores(path: Path) -> dict[str, float]:
    """What the last checkpoint of a run scored."""
    with (path.with_suffix("") / "validation.csv").open(newline="") as file:
        *_, row = csv.DictReader(file)
    return {name: float(row[name]) for name in SCORES}


def table(scores: Scores) -> str:
    """Means and differences as Markdown, with a sentence on how to read them."""
    names = [f"{SCORES[name]}, less the student's | ratio" for name in COMPARED]
    head = ["", "seeds", *SCORES.values(), *" | ".join(names).split(" | ")]
    lines = [head, ["---"] * len(head)]
    for row, by_seed in scores.items():
        cells = [TITLES[row], str(len(by_seed))]
        cells += [_shown([found[name] for found in by_seed.values()]) for name in SCORES]
        for name in COMPARED:
            cells += _compared(by_seed, scores.get("student", {}), name, alone=row == "student")
        lines.append(cells)
    seeds = max(map(len, scores.values()))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + _legend(seeds)


def estimate(values: list[float]) -> tuple[float, float]:
    """Mean, and its standard error, which one value alone does not have."""
    if len(values) < 2:
        return statistics.fmean(values), math.nan
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def _compared(ours, students, name: str, *, alone: bool) -> list[str]:  # type: ignore[no-untyped-def]
    """The mean difference to the student alone with the same seeds, and its ratio to its error."""
    both = sorted(ours.keys() & students.keys())
    if alone or not both:
        return ["", ""]
    differences = [ours[seed][name] - students[seed][name] for seed in both]
    mean, error = estimate(differences)
    return [_shown(differences), f"{mean / error:.2f}" if error > ROUNDING else ""]


def _shown(values: list[float]) -> str:
    if not values:
        return ""
    mean, error = estimate(values)
    return f"{mean:.4f}" if math.isnan(error) else f"{mean:.4f} ± {error:.4f}"


def _legend(seeds: int) -> str:
    text = "\n\n± is one standard error. Lower is better; differences are between equal seeds."
    freedom = "1 degree" if seeds == 2 else f"{seeds - 1} degrees"
    if seeds > 1:
        text += (
            f" Ratio: difference by its standard error; beyond ±{t.ppf(0.975, seeds - 1):.2f}, the "
            f"two-sided 5 % point of Student's t for {freedom} of freedom, it is hardly chance."
        )
    return text


def _train(path: Path) -> str | None:
    """As `cadseg train PATH --out FOLDER --resume`, in a worker; the sentence if it failed."""
    from cadseg.models.training import recipe
    from cadseg.models.training.train import train

    folder = path.with_suffix("")
    with path.with_suffix(".log").open("a") as log, redirect_stdout(log):
        try:
            train(recipe.load(str(path)), folder, resume=True)
        except CadsegError as error:
            return str(error)
    return None


def _end_with_parent() -> None:
    """See that this worker ends when the process that started it does, however that ended."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()
