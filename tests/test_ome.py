"""Voxel sizes and offsets: read from metadata of all kinds, written so that others read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from funlib.persistence import open_ds
from toy_arrays import grey, store_array

from cadseg.blocks import zyx
from cadseg.storage import group, ome, outputs, volume
from cadseg.storage.local_files import LocalFiles

if TYPE_CHECKING:
    from pathlib import Path


def _image(path: Path, version: str, unit: str, scale: list[float]) -> None:
    """An OME-Zarr image of one level named "full"."""
    kind = "v2" if version == "0.4" else "v3"
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": unit} for a in "zyx"]
    steps = [{"type": "scale", "scale": [1.0, *scale]}]
    image = {"axes": axes, "datasets": [{"path": "full", "coordinateTransformations": steps}]}
    attributes: dict[str, Any] = {"multiscales": [image]}
    zarr.create_group(
        path,
        zarr_format=2 if kind == "v2" else 3,
        attributes=attributes if kind == "v2" else {"ome": attributes},
    )
    store_array(path / "full", grey(1, 8, 16, 16), kind)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("nanometer", [33.3, 4, 4]),
        ("micrometer", [0.0333, 0.004, 0.004]),
        ("angstrom", [333, 40, 40]),
    ],
)
def test_an_ome_image_is_its_full_resolution(
    tmp_path: Path, version: str, unit: str, scale: list[float]
) -> None:
    """An OME-Zarr image opens as its first level, its voxel size in nm whatever the unit."""
    _image(tmp_path / "image", version, unit, scale)
    for url in (tmp_path / "image", tmp_path / "image" / "full"):
        opened = volume.open_volume(str(url))
        assert opened.shape == (8, 16, 16)
        assert opened.voxel_size_nm == pytest.approx((33.3, 4, 4))


def test_ome_steps_follow_each_other() -> None:
    """A level's scale and translation come first; the image's own then apply to the result."""
    level = [
        {"type": "scale", "scale": [1, 2, 2]},
        {"type": "translation", "translation": [0, 3, 3]},
    ]
    image = {
        "axes": [{"name": axis, "unit": "nanometer"} for axis in "zyx"],
        "coordinateTransformations": [{"type": "scale", "scale": [40, 4, 4]}],
    }
    found = ome.of_level(image, {"coordinateTransformations": level})
    assert found == ome.Geometry((40, 8, 8), (0, 12, 12))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"voxel_size": [40, 4, 4]}, (40, 4, 4)),
        ({"resolution": [40, 4, 4], "offset": [400, 0, 8]}, (40, 4, 4)),
        ({"voxel_size": [1, 40, 4, 4], "units": ["nm"]}, (40, 4, 4)),
        ({"voxel_size": [33300, 3800, 3800], "units": ["pm", "pm", "pm"]}, (33.3, 3.8, 3.8)),
        ({"voxel_size": [1, 1, 1], "units": ["", "", ""]}, None),
        ({}, None),
    ],
)
def test_voxel_sizes_of_arrays(tmp_path: Path, attributes: dict[str, Any], expected: Any) -> None:
    """An array's attributes give its voxel size in nm; 1, 1, 1 without a unit is unknown."""
    store_array(tmp_path / "a", grey(8, 16, 16), "v3", attributes=attributes)
    assert volume.open_volume(str(tmp_path / "a")).voxel_size_nm == expected


@pytest.mark.parametrize("size", [(40.0, 4.0, 4.0), (33.3, 4.5, 4.0), (25 / 3, 4.0, 4.0)])
def test_funlib_persistence_opens_outputs(tmp_path: Path, size: tuple[float, ...]) -> None:
    """funlib.persistence sees an output's voxel size and offset, fractions of a nm included."""
    offset = zyx(np.round([1000 * s for s in size]))
    made = outputs.create_output(
        LocalFiles(tmp_path / "out"),
        "affinities",
        lead=(3,),
        shape=(8, 16, 16),
        dtype="uint8",
        shard=(8, 16, 16),
        voxel_size_nm=(size[0], size[1], size[2]),
        offset_nm=offset,
    )
    opened = open_ds(str(tmp_path / "out" / "affinities"))
    unit = {"nm": 1, "pm": 1e-3, "fm": 1e-6}[opened.units[0]]
    assert [v * unit for v in opened.voxel_size] == pytest.approx(size, rel=1e-6)
    assert [v * unit for v in opened.offset] == pytest.approx(offset, rel=1e-6)
    assert opened.shape == (3, 8, 16, 16)
    ours = volume.open_volume(f"{made.files.url}/{made.name}")
    assert ours.voxel_size_nm == pytest.approx(size, rel=1e-6)


def test_the_segmentation_is_an_ome_image(tmp_path: Path) -> None:
    """The levels of a segmentation open as one image, each at its own voxel size."""
    files = LocalFiles(tmp_path)
    for level, shape in enumerate([(8, 32, 32), (8, 16, 16)]):
        outputs.create_output(
            files, f"segmentation/{level}", shape=shape, dtype="uint64", shard=(8, 16, 16)
        )
    group.write_multiscales(files, ["0", "1"], [(1, 1, 1), (1, 2, 2)], (33.3, 4.0, 4.0))
    image = volume.open_volume(str(tmp_path / "segmentation"))
    assert (image.shape, image.voxel_size_nm) == ((8, 32, 32), (33.3, 4, 4))
    coarse = volume.open_volume(str(tmp_path / "segmentation" / "1"))
    assert coarse.voxel_size_nm == (33.3, 8, 8)
    assert coarse.offset_nm == (0, 2, 2)
