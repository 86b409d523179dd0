"""Kinds of inputs that are spoilt, each with a function that draws one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import real_run as real

from fuzzing import networks, runs, scores, texts, volumes

if TYPE_CHECKING:
    from pathlib import Path

    from fuzzing.case import Kind

KINDS: dict[str, Kind] = {
    "config": texts.config_file,
    "recipe": texts.recipe_file,
    "set": texts.set_value,
    "plan": texts.plan_words,
    "volume": volumes.spoilt_volume,
    "weights": networks.weights_file,
    "exported": networks.exported_network,
    "checkpoint": networks.checkpoint,
    "evaluate": scores.evaluation,
    "hdf5": scores.spoilt_h5,
    "sweep": scores.swept,
    "run": runs.spoilt_run,
}


def prepare(folder: Path) -> None:
    """Make what the kinds spoil, in the folder ``inputs``."""
    inputs = folder / "inputs"
    real.volume(inputs / "raw.zarr", real.affinities()[0])
    real.volume(inputs / "affs.zarr", real.affinities())
    volumes.prepare(inputs / "volumes")
    networks.prepare(inputs / "networks")
    scores.prepare(inputs / "scores")
    runs.prepare(inputs / "runs")
