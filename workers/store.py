"""Everything a block can read and write: one run, opened once per worker process.

A run has ``run.json`` (`cadseg.workers.manifest`), a Zarr array per array-valued stage, Parquet
tables under ``graph/``, and under ``records/`` a done-record per block: written after the block's
data, small, with counts and a checksum. A block is done when its record is there and carries the
identity that its stage has now.
"""

from __future__ import annotations

import functools
import json
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.blocks import Block, Grid, Roi, Zyx, cell_name, zyx
from cadseg.errors import OutputError
from cadseg.storage import inputs, outputs, tables, volume
from cadseg.storage.files import Files, open_files
from cadseg.workers import manifest as manifests

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cadseg.agglomeration.scoring import Scoring
    from cadseg.arrays import Array
    from cadseg.config import Config
    from cadseg.storage.tables import Table
    from cadseg.workers.manifest import Manifest, Origin

RECORDED = {"identity", "voxels", "seconds", "counts", "checksum"}
"""Keys of a done-record."""


@dataclass
class Store:
    """One run.

    Attributes:
        files: where it lies.
        manifest: what it is.
    """

    files: Files
    manifest: Manifest
    checksum: int = field(default=0, init=False)

    @classmethod
    def open(cls, out: str | Path) -> Store:
        """The run at the address `out`.

        Raises:
            OutputError: there is none.
        """
        files = open_files(out)
        manifest = manifests.read(files)
        if manifest is None:
            raise OutputError(
                f"output {out}: holds no run; accepted is the folder of an earlier run"
            )
        return cls(files, manifest)

    @property
    def config(self) -> Config:
        """The resolved config of the run."""
        return self.manifest.config

    @functools.cached_property
    def grid(self) -> Grid:
        """The grid of blocks."""
        begin, end = zip(*self.manifest.roi, strict=True)
        domain = Roi(zyx(begin), zyx(end))
        return Grid(self.manifest.shape, domain, self.config.block_shape)

    def identity(self, stage: str) -> str:
        """What `stage` is computed from, as a hash."""
        return self.origin(stage).identity

    def origin(self, stage: str) -> Origin:
        """What `stage` is computed from.

        Raises:
            OutputError: the run's manifest does not name the stage.
        """
        if stage not in self.manifest.stages:
            raise OutputError(
                f"output {self.files.url}: {manifests.NAME} does not say what the stage {stage} "
                "was computed from; accepted is the folder of a run by this version of cadseg"
            )
        return self.manifest.stages[stage]

    # arrays ----------------------------------------------------------------------------------

    @functools.cached_property
    def raw(self) -> volume.Volume:
        """The volume that the run starts from: raw, or affinities."""
        return volume.open_volume(self.manifest.volume)

    @property
    def fused(self) -> bool:
        """Whether affinities are predicted where they are needed, and not kept."""
        return self.manifest.source == "raw" and not self.config.predict.keep_affinities

    def read_affinities(self, roi: Roi) -> Array:
        """Affinities [3, z, y, x] as integers: the run's own, or those that it starts from."""
        if self.manifest.source == "affinities":
            return inputs.read_affinities(self.raw, roi)
        return self.read("affinities", roi)

    @property
    def scoring(self) -> Scoring:
        """How contacts are scored."""
        from cadseg.agglomeration.scoring import Scoring  # numba takes long to import

        return Scoring.of(self.config.agglomerate.scoring, np.uint8)

    @functools.cached_property
    def mask(self) -> volume.Volume | None:
        """The mask, if there is one."""
        url = self.config.volume.mask
        return None if url is None else volume.open_volume(url)

    def read(self, name: str, roi: Roi) -> Array:
        """Voxels of the run's own array `name`; leading axes come whole."""
        return self._array(name).read(roi)

    def write(
        self,
        name: str,
        block: Block,
        data: Array,
        names: Array | None = None,
    ) -> None:
        """Write `block.write` of array `name`; the rest of the block's cell becomes 0.

        Args:
            name: of the array.
            block: whose voxels they are.
            data: the voxels, or numbers of what they are.
            names: by number, what is written; 0 for 0.
        """
        if block.write != block.cover:
            lead = data.shape[:-3]
            whole = np.zeros((*lead, *block.cover.shape), data.dtype)
            whole[(..., *block.write.slices(block.cover.begin))] = data
            data = whole
        self.write_roi(name, block.cover, data, names)

    def write_roi(
        self,
        name: str,
        roi: Roi,
        data: Array,
        names: Array | None = None,
    ) -> None:
        """Write whole shards of the array `name`."""
        written = self._array(name).write(roi, data, names)
        self.checksum = zlib.crc32(written.to_bytes(4, "little"), self.checksum)

    def _array(self, name: str) -> outputs.OutputArray:
        if name not in self._arrays:
            self._arrays[name] = outputs.open_output(self.files, name)
        return self._arrays[name]

    @functools.cached_property
    def _arrays(self) -> dict[str, outputs.OutputArray]:
        return {}

    def pyramid_factors(self, level: int) -> Zyx:
        """How much coarser than the volume a level of the segmentation's pyramid is, z y x."""
        return self.manifest.pyramid[level]

    # tables ----------------------------------------------------------------------------------

    @classmethod
    def table_name(cls, kind: str, level: int, cell: Zyx) -> str:
        """Name of the table `kind` of one block."""
        return f"{cls.table_folder(kind)}/level-{level}/{cell_name(cell)}.parquet"

    @staticmethod
    def table_folder(kind: str) -> str:
        """Folder of the table `kind` of all blocks: beside the arrays where users look for it."""
        return kind if kind == "segments" else f"graph/{kind}"

    def read_table(
        self, kind: str, level: int, cell: Zyx, columns: tuple[str, ...] | None = None
    ) -> Table:
        """The table `kind` of the block at `cell` of `level`, or some of its columns."""
        return tables.read(self.files, self.table_name(kind, level, cell), columns)

    def write_table(self, kind: str, block: Block, table: Mapping[str, Array]) -> None:
        """Write the table `kind` of `block`."""
        tables.write(self.files, self.table_name(kind, block.level, block.cell), table)
        for column in table.values():
            self.checksum = zlib.crc32(np.ascontiguousarray(column).data, self.checksum)

    # records ---------------------------------------------------------------------------------

    @staticmethod
    def record_name(step: str, cell: Zyx) -> str:
        """Name of the done-record of one block."""
        return f"records/{step}/{cell_name(cell)}.json"

    def record(self, step: str, stage: str, cell: Zyx) -> dict[str, Any] | None:
        """The done-record of a block, or None where the block is not done."""
        try:
            record = json.loads(self.files.read(self.record_name(step, cell)))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(record, dict) or not record.keys() >= RECORDED:
            return None
        return record if record["identity"] == self.identity(stage) else None

    def write_record(
        self, step: str, stage: str, block: Block, counts: Mapping[str, int], started: float
    ) -> None:
        """Write the done-record of `block`: from now on it is done."""
        record = {
            "identity": self.identity(stage),
            "voxels": block.write.size,
            "seconds": round(time.monotonic() - started, 6),
            "counts": dict(counts),
            "checksum": self.checksum,
        }
        self.files.write(self.record_name(step, block.cell), json.dumps(record).encode())
