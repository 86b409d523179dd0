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
MANIFEST = "run.json"
SEGMENTATION = "segmentation"

LAYOUT = 2
"""Number of the arrangement of a run's files, in the metadata of its group; 1 had other records."""


def ensure_group(files: Files) -> None:
    """Make the place of a run its group.

    Raises:
        OutputError: it holds something else.
    """
    check_free(files)
    _ensure(files, METADATA, _group({"cadseg": {"layout": LAYOUT}}))


def check_free(files: Files) -> None:
    """Refuse a place that no run may have as its own.

    Raises:
        OutputError: something that is neither a run's group nor an empty folder is there.
    """
    check_layout(files)
    if not is_ours(files) and files.list(""):
        raise OutputError(
            f"output {files.url}: exists and was not written by cadseg; accepted are a new or "
            "empty folder, or the folder of an earlier run"
        )


def check_layout(files: Files) -> None:
    """Refuse a run whose files another version has arranged.

    Raises:
        OutputError: it is such a run.
    """
    found = _layout(files)
    if found not in (None, LAYOUT):
        age = "an older" if found < LAYOUT else "a newer"
        raise OutputError(
            f"output {files.url}: is a run of {age} version of cadseg, of layout {found}; this one "
            f"reads layout {LAYOUT}: choose another --out"
        )


def is_ours(files: Files) -> bool:
    """Whether a run is there; its group's metadata may be damaged."""
    return _layout(files) is not None or "cadseg" in (_read(files, MANIFEST) or {})


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
    files.write(f"{SEGMENTATION}/{METADATA}", _encoded(_group(attributes)))


def add_array(files: Files, name: str, metadata: Mapping[str, Any]) -> None:
    """Make the array `name` with this metadata, and the groups above it."""
    ensure_group(files)
    for above in list(PurePosixPath(name).parents)[-2::-1]:
        _ensure(files, f"{above}/{METADATA}", _group({}))
    _ensure(files, f"{name}/{METADATA}", metadata)


def metadata(files: Files, name: str) -> dict[str, Any]:
    """What says how the array `name` is stored.

    Raises:
        OutputError: nothing says it any more.
    """
    found = _read(files, f"{name}/{METADATA}")
    if found is None:
        raise damaged(files, name)
    return found


def damaged(files: Files, name: str) -> OutputError:
    """The error about an array whose metadata cannot be read."""
    return OutputError(
        f"output {files.url}/{name}: its {METADATA} is damaged; the command that made the run "
        "writes it anew"
    )


def _ensure(files: Files, name: str, metadata: Mapping[str, Any]) -> None:
    """Write metadata where others are, or none; more attributes of a sound group stay."""
    others, ours = (_read(files, name) or {}).get("attributes"), metadata["attributes"]
    if (
        metadata["node_type"] == "group"
        and isinstance(others, dict)
        and others.keys() >= ours.keys()
    ):
        metadata = {**metadata, "attributes": {**others, **ours}}
    content = _encoded(metadata)
    try:
        same = files.read(name) == content
    except FileNotFoundError:
        same = False
    if not same:
        files.write(name, content)


def _layout(files: Files) -> int | None:
    """Number of a run's layout; None where no run's metadata say it."""
    try:
        found = (_read(files, METADATA) or {})["attributes"]["cadseg"]["layout"]
    except (LookupError, TypeError):
        return None
    return found if type(found) is int else None


def _read(files: Files, name: str) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none."""
    try:
        found = json.loads(files.read(name))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _encoded(metadata: Mapping[str, Any]) -> bytes:
    return json.dumps(metadata, indent=2).encode()


def _group(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
