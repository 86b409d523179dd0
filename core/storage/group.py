"""A run's folder as a Zarr 3 group: its metadata files, each replaced whole.

Metadata is plain JSON, fixed by Zarr's specification, so it is written here without zarr: a file is
there entirely or not at all, whenever the writer is stopped.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadseg.errors import OutputError
from cadseg.storage import ome, tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cadseg.blocks import Zyx
    from cadseg.storage.ome import Size

FILE = "zarr.json"
SEGMENTATION = "segmentation"


def ensure_group(out: Path) -> None:
    """Make the folder `out` a run's group.

    Raises:
        OutputError: it holds something else.
    """
    check_free(out)
    if not is_ours(out):
        _write(out, _group({"cadseg": {"layout": 1}}))


def check_free(out: Path) -> None:
    """Refuse a path that no run may have as its folder.

    Raises:
        OutputError: something that is neither a run's group nor an empty folder is there.
    """
    if out.exists() and not is_ours(out) and not (out.is_dir() and _is_empty(out)):
        raise OutputError(
            f"output {out}: exists and was not written by cadseg; accepted are a new or empty "
            "folder, or the folder of an earlier run"
        )


def is_ours(out: Path) -> bool:
    """Whether the folder `out` is a run's group."""
    try:
        return "cadseg" in json.loads((out / FILE).read_text("utf-8"))["attributes"]
    except (OSError, ValueError, KeyError):
        return False


def write_multiscales(
    out: Path,
    levels: Sequence[str],
    factors: Sequence[Zyx],
    voxel_size_nm: Size | None,
    offset_nm: Size = ome.ORIGIN,
) -> None:
    """Make the group ``segmentation`` an OME-NGFF 0.5 image.

    Args:
        out: folder of the run's group.
        levels: names of the arrays in ``segmentation``, finest first.
        factors: how much coarser than full resolution each of them is, z y x.
        voxel_size_nm: of the volume, z y x; None where it is not known.
        offset_nm: place of the volume's first corner in the world, z y x.
    """
    attributes = ome.multiscales_attributes(SEGMENTATION, levels, factors, voxel_size_nm, offset_nm)
    _write(out / SEGMENTATION, _group(attributes))


def add_array(out: Path, name: str, metadata: Mapping[str, Any]) -> None:
    """Make the array `name` with this metadata, and the groups above it; keep what is there.

    Raises:
        OutputError: what is there has another layout.
    """
    ensure_group(out)
    for above in list(Path(name).parents)[-2::-1]:
        _ensure(out / above, _group({}))
    _ensure(out / name, metadata)


def remove(out: Path, name: str) -> None:
    """Remove the array or group `name`, if it is there."""
    if (out / name).exists():
        shutil.rmtree(out / name)


def _ensure(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write metadata where there is none; where there is, check that the layout is the same."""
    try:
        found = json.loads((folder / FILE).read_text("utf-8"))
    except FileNotFoundError:
        _write(folder, metadata)
        return
    layout = {key: value for key, value in metadata.items() if key != "attributes"}
    if any(found.get(key) != value for key, value in layout.items()):
        raise OutputError(
            f"output {folder}: has another shape, type or block shape than this run's; "
            "accepted are the same ones, or a new output folder"
        )
    if metadata["node_type"] == "array" and found != metadata:
        _write(folder, metadata)  # the voxel size was corrected


def _write(folder: Path, metadata: Mapping[str, Any]) -> None:
    tables.replace(folder / FILE, json.dumps(metadata, indent=2).encode())


def _group(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in it but what a stopped writer leaves."""
    names = (path.name for path in folder.iterdir())
    return all(name.startswith(".") and name.endswith(".part") for name in names)
