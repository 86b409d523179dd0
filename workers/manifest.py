"""What a run is, in ``run.json``: written before its first block, read by everything after it.

Here is the only place that reads the file, and the only one that writes it. It holds the resolved
config, the volume and the grid, the network where there is one, and what each stage is computed
from. Lengths are voxels, z y x, where no unit is named.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from cadseg.blocks import Roi, zyx
from cadseg.config import Config, Lengths, Nm, Strict, sentence
from cadseg.errors import OutputError
from cadseg.storage.checksums import checksum
from cadseg.storage.group import MANIFEST
from cadseg.storage.ome import FARTHEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cadseg.storage.files import Files

NAME = MANIFEST
CHECKSUM = "checksum"
"""Key in the file, beside those of `Manifest`."""

Source = Literal["raw", "affinities"]
Place = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
Span = tuple[int, int]


class Origin(Strict):
    """What a stage is computed from.

    Attributes:
        identity: hash of the inputs, and of the identity of the stage before.
        inputs: plain data, by dotted key.
        contents: hashes of all voxels that it reads, by the volume's name, where ``--verify-input``
            has found them; no part of the identity.
    """

    identity: str
    inputs: dict[str, Any]
    contents: dict[str, str] = Field(default_factory=dict)


class NetworkOrigin(Strict):
    """What affinities are predicted with.

    Attributes:
        weights: where the file lay.
        weights_sha256: hash of its content.
        device: kind of device that it runs on.
    """

    weights: str
    weights_sha256: str
    device: str


class Manifest(Strict):
    """The content of ``run.json``.

    Attributes:
        schema_version: of the keys here; ``schema`` in the file.
        cadseg: version that made the run.
        source: what the volume holds.
        volume: where it lies.
        shape: of the volume.
        roi: the part to segment, begin and end per axis.
        voxel_size_nm: of the volume.
        offset_nm: place of its first corner.
        pyramid: how much coarser than the volume each level of the segmentation is.
        config: the numbers, all of them.
        network: for a run from raw.
        stages: by name, in their order.
    """

    schema_version: Literal[1] = Field(alias="schema")
    cadseg: str
    source: Source
    volume: str
    shape: Lengths
    roi: tuple[Span, Span, Span]
    voxel_size_nm: tuple[Nm, Nm, Nm]
    offset_nm: tuple[Place, Place, Place]
    pyramid: tuple[Lengths, ...]
    config: Config
    network: NetworkOrigin | None
    stages: dict[str, Origin]

    @model_validator(mode="after")
    def _holds_voxels(self) -> Manifest:
        begin, end = zip(*self.roi, strict=True)
        roi, whole = Roi(zyx(begin), zyx(end)), Roi((0, 0, 0), self.shape)
        if roi.size == 0 or not whole.contains(roi):
            raise ValueError(f"roi {roi} holds no voxel or leaves the volume, {whole}")
        return self


def write(files: Files, manifest: Manifest) -> None:
    """Make `manifest` the run's."""
    tree = manifest.model_dump(mode="json", by_alias=True)
    text = json.dumps(tree | {CHECKSUM: _checksum(tree)}, indent=1)
    files.write(NAME, text.encode())


def read(files: Files) -> Manifest | None:
    """The run's manifest; None where there is no run.

    Raises:
        OutputError: it is damaged, or of another version of the schema.
    """
    try:
        text = files.read(NAME)
    except FileNotFoundError:
        if NAME not in files.list(""):
            return None
        raise _unreadable(files, "it is a folder") from None
    except (OSError, ValueError) as error:  # as of a name that no file can have
        raise _unreadable(files, str(error)) from None
    try:
        tree = json.loads(text)
        found = tree.pop(CHECKSUM, None)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _unreadable(files, "it is not a JSON object") from None
    try:
        manifest = Manifest.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise _unreadable(files, sentence(error)) from None
    if found != _checksum(tree):
        raise _unreadable(files, "it was changed after it was written")
    return manifest


def _checksum(tree: Mapping[str, Any]) -> str:
    """CRC-32C of all that a manifest says."""
    return f"{checksum(json.dumps(tree, sort_keys=True).encode()):08x}"


def _unreadable(files: Files, found: str) -> OutputError:
    return OutputError(
        f"output {files.url}: {NAME} cannot be read: {found}; accepted is the folder of a run by "
        "this version of cadseg, as it was written"
    )
