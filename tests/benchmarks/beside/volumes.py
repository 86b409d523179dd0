"""Affinities to compare on: the published AC34 student on SNEMI3D, and mirrored copies of them.

Everything is made once and kept in a scratch folder.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cadseg.blocks import Grid, Roi, Zyx, zyx
from cadseg.models.predict import Predictor
from cadseg.models.published import import_published
from cadseg.storage import outputs
from cadseg.storage.local_files import LocalFiles

Array = np.ndarray[Any, Any]

SHARED = Path(__file__).resolve().parents[4] / "shared"
SNEMI3D = SHARED / "data" / "snemi3d_ac4" / "train.h5"
CHECKPOINT = SHARED / "reference" / "published_student_ac34.ckpt"

SHARD: Zyx = (48, 1024, 1024)  # the default block
VOXEL_SIZE_NM = (30.0, 6.0, 6.0)


def affinities(scratch: Path, shape: Zyx) -> Path:
    """The array of affinities [3, z, y, x] uint8 of that shape; made where it is not there yet.

    Along each axis the sections' affinities are followed by their mirror image, and so on, so that
    processes go on across the faces. Blocks are written one by one, in bounded memory.
    """
    name = "x".join(map(str, shape))
    folder = scratch / "affinities" / name
    if not folder.exists():
        print(f"writing affinities of {name} voxels", file=sys.stderr)
        copies = _predicted(scratch)
        unfinished = folder.with_name(f"{name}.part")
        array = outputs.create_output(
            LocalFiles(unfinished),
            "affinities",
            lead=(3,),
            shape=shape,
            dtype="uint8",
            shard=SHARD,
            voxel_size_nm=VOXEL_SIZE_NM,
        )
        grid = Grid(shape, Roi((0, 0, 0), shape), SHARD)
        for cell in grid.cells(0):
            roi = grid.block(0, cell).write
            array.write(roi, mirrored(copies, roi))
        unfinished.rename(folder)
    return folder / "affinities"


def mirrored(once: Array, roi: Roi) -> Array:
    """The box `roi` of endless mirrored copies of `once`, [3, z, y, x].

    The pair of voxels p and p - 1 is the pair q + 1 and q of a mirror image; across a face, where a
    voxel meets its own image, it is the pair beside the face.
    """
    ends = zip(roi.begin, roi.end, once.shape[1:], strict=True)
    places = [_mirrored(begin, end, n) for begin, end, n in ends]
    out = np.empty((3, *roi.shape), once.dtype)
    for channel in range(3):
        axes = [pair if axis == channel else at for axis, (at, pair) in enumerate(places)]
        out[channel] = once[channel][np.ix_(*axes)]
    return out


def _mirrored(begin: int, end: int, n: int) -> tuple[Array, Array]:
    """Along one axis, where voxels come from, and where their pairs with the voxel before do."""
    copy, place = np.divmod(np.arange(begin, end), n)
    inside = np.maximum(place, 1)
    odd = copy % 2 == 1
    return np.where(odd, n - 1 - place, place), np.where(odd, n - inside, inside)


def _predicted(scratch: Path) -> Array:
    """What the student says about all sections, each as one tile, as its authors ran it."""
    kept = scratch / "affinities" / "ac34.npy"
    if not kept.exists():
        for needed in (SNEMI3D, CHECKPOINT):
            if not needed.is_file():
                sys.exit(f"{needed} is not there; the benchmark needs it")
        kept.parent.mkdir(parents=True, exist_ok=True)
        imported = kept.with_name("ac34.safetensors")
        import_published(CHECKPOINT, imported)
        predict = Predictor(imported)
        with h5py.File(SNEMI3D, "r") as file:
            raw = file["raw"][:]
        pairs = itertools.chain([raw[[0, 0]]], (raw[z - 1 : z + 1] for z in range(1, len(raw))))
        found = np.concatenate([predict(pair) for pair in pairs], axis=1)
        unfinished = kept.with_name("ac34.part.npy")
        np.save(unfinished, found)
        unfinished.rename(kept)
    return np.load(kept)


def shape_of(name: str) -> Zyx:
    """The shape that is written ZxYxX."""
    return zyx(name.split("x"))
