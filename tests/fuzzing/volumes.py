"""Volumes of others: metadata and chunks."""

from __future__ import annotations

import contextlib
import math
import shutil
from typing import TYPE_CHECKING, Any

import toy_arrays
import zarr

from cadseg.blocks import Roi
from cadseg.errors import CadsegError
from fuzzing import mutations
from fuzzing.case import Case

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from cadseg.pipeline.prepare import PreparedRun

VOLUMES = ("v2", "v3", "sharded", "image-0.4", "image-0.5", "plain")


def prepare(folder: Path) -> None:
    """Volumes in all formats, small."""
    grey = toy_arrays.grey(8, 16, 32)
    for kind in toy_arrays.KINDS:
        toy_arrays.store_array(folder / kind, grey, kind, attributes=SIZED)
    for version, kind in (("0.4", "v2"), ("0.5", "v3")):
        steps = [
            {"type": "scale", "scale": [40.0, 4.0, 4.0]},
            {"type": "translation", "translation": [0.0, 1.0, 2.0]},
        ]
        axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
        levels = [{"path": "s0", "coordinateTransformations": steps}]
        image = {"version": version, "name": "x", "axes": axes, "datasets": levels}
        attributes: Any = {"multiscales": [image | {"coordinateTransformations": steps[:1]}]}
        if version == "0.5":
            attributes = {"ome": {"version": version} | attributes}
        path = folder / f"image-{version}"
        zarr.create_group(path, zarr_format=int(kind[1]), attributes=attributes)
        toy_arrays.store_array(path / "s0", grey, kind)
    zarr.create_array(
        folder / "plain",
        data=grey,
        chunks=(8, 16, 16),
        compressors=None,
        attributes=SIZED | {"resolution": [40, 4, 4]},
        zarr_format=2,
        order="F",
    )


SIZED = {"voxel_size": [40, 4, 4], "offset": [40, 0, 0], "units": ["nm", "nm", "nm"]}


def spoilt_volume(random: Random, folder: Path) -> Case:
    """A volume with one or two files changed, mostly metadata."""
    kind = random.choice(VOLUMES)
    place = folder / "case" / kind
    shutil.copytree(folder / "inputs" / "volumes" / kind, place)
    files = sorted(path for path in place.rglob("*") if path.is_file())
    metadata = [
        path for path in files if path.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup")
    ]
    about = []
    for _ in range(random.choice((1, 1, 1, 2))):
        path = random.choice(metadata if random.random() < 0.9 else files)
        if path in metadata and path.exists():
            data = mutations.in_json(random, path.read_bytes())
        else:
            data = mutations.in_bytes(random, path.read_bytes() if path.exists() else b"")
        path.unlink()
        how = random.random()
        if how > 0.02:
            path.write_bytes(data)
        elif how > 0.01:
            path.mkdir()
        about.append((path.name, data[:2000]))
        if how <= 0.02:
            break
    url = place / "s0" if kind.startswith("image") and random.random() < 0.3 else place
    words = (
        "plan",
        url,
        f"--weights={folder / 'inputs/networks/tiny.safetensors'}",
        "--config=ssem",
    )

    def check(run: PreparedRun) -> None:
        size, offset = run.store.manifest.voxel_size_nm, run.store.manifest.offset_nm
        assert all(map(math.isfinite, (*size, *offset)))
        assert min(size) > 0
        raw = run.store.raw
        whole = Roi((0, 0, 0), raw.extent)
        if whole.size < 2**20:
            with contextlib.suppress(CadsegError):
                assert raw.read(whole).shape == raw.shape

    return Case(words, check, about)
