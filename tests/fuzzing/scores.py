"""What a finished run is compared with, by which thresholds, and what is to be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import real_run as real
import zarr

from fuzzing import mutations
from fuzzing.case import Case
from fuzzing.texts import BOXES, VALUES

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

TYPES = ("int8", "int16", "int64", "uint8", "uint64", "float32", "bool", "complex64", "S3")
STEPS = ("0.1", "1", "0", "-1", "nan", "inf", "1e-9", "1e-400", "", "a", "٣", "0.5:0.5", "9" * 5000)
ENDS = (
    "0",
    "0.2",
    "0.5",
    "1",
    "1.0",
    "0.05",
    "2",
    "-0.1",
    "nan",
    "inf",
    "",
    "x",
    "1e400",
    "0.9999999",
)


def prepare(folder: Path) -> None:
    """A finished run, and true labels in several forms."""
    folder.mkdir()
    affinities = real.volume(folder / "affs.zarr", real.affinities())
    real.segment(affinities, folder / "run.zarr")
    truth = labels()
    zarr.create_array(folder / "truth.zarr", data=truth)
    with h5py.File(folder / "truth.h5", "w") as file:
        for kind in TYPES:
            file[f"of/{kind}"] = truth.astype(kind)
        file["flat"], file["scalar"] = truth[0], 5
        file["other"], file["zero"] = truth[1:], truth * 0
        file.create_dataset("nothing", dtype="i4")


def labels() -> Any:
    """Cells of 3 x 10 x 10 voxels, from -1 on."""
    z, y, x = np.indices((6, 42, 48))
    return (z // 3 + 2 * (y // 10) + 10 * (x // 10) - 1).astype(np.int64)


def evaluation(random: Random, folder: Path) -> Case:
    """A run or an array against labels that may be anything."""
    place = folder / "inputs/scores"
    sound = [f"{place}/truth.zarr", *(f"{place}/truth.h5:of/{kind}" for kind in TYPES)]
    odd = [f"{place}/truth.h5:{name}" for name in ("flat", "scalar", "other", "zero", "nothing")]
    odd += [f"{place}/truth.h5", f"{place}/truth.h5:", f"{place}/truth.h5:of", *VALUES]
    odd += [f"{place}/x.h5:a", f"{place}/run.zarr/run.json", str(place)]
    ours, truth = (
        random.choice(random.choice((good, sound, odd)))
        for good in ([f"{place}/run.zarr", f"{place}/run.zarr/segmentation/0"], sound)
    )
    words = ["--json", "--", ours, truth]
    if random.random() < 0.5:
        words.insert(0, f"--roi={','.join(random.choice(BOXES) for _ in range(3))}")
    return Case(("evaluate", *words), about=words)


def spoilt_h5(random: Random, folder: Path) -> Case:
    """Labels in an HDF5 file whose bytes are changed."""
    place = folder / "inputs/scores"
    path = folder / "case" / "x.h5"
    path.write_bytes(mutations.in_bytes(random, (place / "truth.h5").read_bytes()))
    return Case(("evaluate", place / "truth.zarr", f"{path}:of/int16", "--json"))


def swept(random: Random, folder: Path) -> Case:
    """Thresholds to score, and files to write; the run stays as it is."""
    place, case = folder / "inputs/scores", folder / "case"
    text = ":".join((random.choice(ENDS), random.choice(ENDS), random.choice(STEPS)))
    if random.random() < 0.3:
        text = random.choice(VALUES)
    words = [f"--sweep={text}", f"--ground-truth={place}/truth.zarr"]
    for option, suffix in (("--table", "csv"), ("--plot", "png")):
        if random.random() < 0.2:
            there = (case / f"x.{suffix}", case / "none" / f"x.{suffix}", random.choice(VALUES))
            words.append(f"{option}={random.choice(there)}")
    if random.random() < 0.2:
        words.append(f"--min-voxels={random.choice((*VALUES, *mutations.ODD))}")
    if random.random() < 0.1:
        words.append(f"--threshold={random.choice(VALUES)}")
    return Case(("relabel", place / "run.zarr", *words), about=words)
