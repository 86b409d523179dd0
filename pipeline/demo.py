"""The demo: segment the volume that ships with the package, score it, and draw it.

The volume is 32 sections of 250 x 250 voxels of Drosophila medulla (FIB-SEM, 10 nm; FIB-25: FlyEM,
HHMI Janelia; Takemura et al. 2015, Parag et al. 2015; CC BY) with neurons corrected by hand. In the
truth, ids with fewer than 1000 voxels in the volume that it was cut from are 0, which scores leave
out: they are artefacts of that correction. The network that ships was not trained on these
sections.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import h5py

from cadseg.blocks import Roi, zyx
from cadseg.evaluation.metrics import Scores, evaluate
from cadseg.evaluation.render import overlay
from cadseg.pipeline import run
from cadseg.storage import outputs, volume
from cadseg.storage.files import open_files

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.arrays import Array

SMALL = (16, 128, 128)  # voxels of the small demo: seconds on one core
BLOCK = (8, 256, 256)  # whole sections, so that no tile is computed twice; several blocks


@dataclass(frozen=True)
class Demo:
    """The files that the demo wrote, and the scores of its segmentation."""

    volume: Path
    truth: Path
    out: str
    picture: Path
    scores: Scores


def demo(folder: Path, small: bool = False, execution: run.Execution | None = None) -> Demo:
    """Segment the demo volume in `folder`; called again, it resumes.

    Args:
        folder: for the volume, the run and the picture.
        small: only a corner of the volume.
        execution: workers, progress and the like.
    """
    inputs = folder / "volume.zarr"
    raw = _write_volume(inputs, small)
    report = run.predict(
        str(inputs / "raw"),
        execution,
        out=folder / "segmented.zarr",
        config="fibsem",
        overrides=[f"block_shape={list(BLOCK)}", f"predict.tile={list(BLOCK[1:])}"],
    )
    assert report.segmentation is not None
    found = volume.open_volume(report.segmentation)
    everything = Roi((0, 0, 0), found.extent)
    depth = found.extent[0]
    picture = folder / "segmented.png"
    sections = [depth // 8, depth // 2, depth - 1 - depth // 8]
    overlay(raw, found.read(everything), sections).save(picture)
    return Demo(
        volume=inputs / "raw",
        truth=inputs / "labels",
        out=report.out,
        picture=picture,
        scores=evaluate(report.segmentation, str(inputs / "labels")),
    )


def _write_volume(inputs: Path, small: bool) -> Array:
    """Write the volume that ships to `inputs`, as the arrays ``raw`` and ``labels``; its raw."""
    with (
        resources.as_file(resources.files("cadseg.pipeline").joinpath("demo.h5")) as path,
        h5py.File(path, "r") as file,
    ):
        shape = SMALL if small else zyx(file["raw"].shape)
        box = Roi((0, 0, 0), shape)
        raw: Array = file["raw"][box.slices()]
        labels = file["labels"][box.slices()]
        z_nm, y_nm, x_nm = (float(nm) for nm in file["raw"].attrs["voxel_size"])
    files = open_files(inputs)
    for name, data in (("raw", raw), ("labels", labels)):
        made = outputs.create_output(
            files,
            name,
            shape=shape,
            dtype=str(data.dtype),
            shard=shape,
            voxel_size_nm=(z_nm, y_nm, x_nm),
        )
        with files.batch() as batch:
            made.write(batch, box, data)
    return raw
