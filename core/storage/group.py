"""A run as a Zarr 3 group: its metadata, each object of it replaced whole.

Metadata is plain JSON, fixed by Zarr's specification, so it is written here without zarr: it is
there entirely or not at all, whenever the writer is stopped.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from cadseg.errors import OutputError
from cadseg.storage import ome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cadseg.blocks import Zyx
    from cadseg.storage.files import Files
    from cadseg.storage.ome import Size

METADATA = "zarr.json"
SEGMENTATION = "segmentation"


def ensure_group(files: Files) -> None:
    """Make the place of a run its group.

    Raises:
        OutputError: it holds something else.
    """
    check_free(files)
    if not is_ours(files):
        _write(files, METADATA, _group({"cadseg": {"layout": 1}}))


def check_free(files: Files) -> None:
    """Refuse a place that no run may have as its own.

    Raises:
        OutputError: something that is neither a run's group nor an empty folder is there.
    """
    if not is_ours(files) and files.list(""):
        raise OutputError(
            f"output {files.url}: exists and was not written by cadseg; accepted are a new or "
            "empty folder, or the folder of an earlier run"
        )


def is_ours(files: Files) -> bool:
    """Whether a run's group is there."""
    try:
        return "cadseg" in json.loads(files.read(METADATA))["attributes"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def write_multiscales(
    files: Files,
    levels: Sequence[str],
    factors: Sequence[Zyx],
    voxel_size_nm: Size | None,
    offset_nm: Size = ome.ORIGIN,
) -> None:
    """Make the group ``segmentation`` an OME-NGFF 0.5 image.

    Args:
        files: of the run.
        levels: names of the arrays in ``segmentation``, finest first.
        factors: how much coarser than full resolution each of them is, z y x.
        voxel_size_nm: of the volume, z y x; None where it is not known.
        offset_nm: place of the volume's first corner in the world, z y x.
    """
    attributes = ome.multiscales_attributes(SEGMENTATION, levels, factors, voxel_size_nm, offset_nm)
    _write(files, f"{SEGMENTATION}/{METADATA}", _group(attributes))


def add_array(files: Files, name: str, metadata: Mapping[str, Any]) -> None:
    """Make the array `name` with this metadata, and the groups above it; keep what is there.

    Raises:
        OutputError: what is there has another layout.
    """
    ensure_group(files)
    for above in list(PurePosixPath(name).parents)[-2::-1]:
        _ensure(files, str(above), _group({}))
    _ensure(files, name, metadata)


def metadata(files: Files, name: str) -> dict[str, Any]:
    """What says how the array `name` is stored."""
    found: dict[str, Any] = json.loads(files.read(f"{name}/{METADATA}"))
    return found


def _ensure(files: Files, node: str, metadata: Mapping[str, Any]) -> None:
    """Write metadata where there is none; where there is, check that the layout is the same."""
    name = f"{node}/{METADATA}"
    try:
        found = json.loads(files.read(name))
    except FileNotFoundError:
        _write(files, name, metadata)
        return
    layout = {key: value for key, value in metadata.items() if key != "attributes"}
    if any(found.get(key) != value for key, value in layout.items()):
        raise OutputError(
            f"output {files.url}/{node}: has another shape, type or block shape than this run's; "
            "accepted are the same ones, or a new output folder"
        )
    if metadata["node_type"] == "array" and found != metadata:
        _write(files, name, metadata)  # the voxel size was corrected


def _write(files: Files, name: str, metadata: Mapping[str, Any]) -> None:
    files.write(name, json.dumps(metadata, indent=2).encode())


def _group(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
