"""Everything a block can read and write: one run's folder, opened once per worker process.

A run's folder holds ``run.json`` (the config, the grid and the identity of each stage), a Zarr
array per array-valued stage, Parquet tables under ``graph/``, and under ``records/`` a done-record
per block: written after the block's data, small, with counts and a checksum. A block is done when
its record is there and carries the identity that its stage has now.
"""

from __future__ import annotations

import functools
import json
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg import config as configs
from cadseg.blocks import Block, Grid, Roi, Zyx, zyx
from cadseg.storage import inputs, tables, volume

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cadseg.agglomeration.scoring import Scoring
    from cadseg.config import Config
    from cadseg.storage.tables import Table

RUN_FILE = "run.json"


@dataclass
class Store:
    """One run's folder.

    Attributes:
        out: the folder.
        run: the content of ``run.json``.
    """

    out: Path
    run: Mapping[str, Any]
    checksum: int = field(default=0, init=False)

    @classmethod
    def open(cls, out: Path) -> Store:
        """The run in folder `out`."""
        return cls(out, json.loads((out / RUN_FILE).read_text("utf-8")))

    @functools.cached_property
    def config(self) -> Config:
        """The resolved config of the run."""
        return configs.from_tree(self.run["config"], str(self.out / RUN_FILE))

    @functools.cached_property
    def grid(self) -> Grid:
        """The grid of blocks."""
        roi = self.run["roi"]
        domain = Roi(zyx(pair[0] for pair in roi), zyx(pair[1] for pair in roi))
        return Grid(zyx(self.run["shape"]), domain, zyx(self.config.block_shape))

    def identity(self, stage: str) -> str:
        """What `stage` is computed from, as a hash."""
        return str(self.run["stages"][stage]["identity"])

    # arrays ----------------------------------------------------------------------------------

    @functools.cached_property
    def raw(self) -> volume.Volume:
        """The volume that the run starts from: raw, or affinities."""
        return volume.open_volume(self.run["volume"])

    @property
    def fused(self) -> bool:
        """Whether affinities are predicted where they are needed, and not kept."""
        return self.run["source"] == "raw" and not self.config.predict.keep_affinities

    def read_affinities(self, roi: Roi) -> np.ndarray[Any, Any]:
        """Affinities [3, z, y, x] as integers: the run's own, or those that it starts from."""
        if self.run["source"] == "affinities":
            return inputs.read_affinities(self.raw, roi)
        return self.read("affinities", roi)

    @property
    def scoring(self) -> Scoring:
        """How contacts are scored."""
        from cadseg.agglomeration.scoring import Scoring  # numba takes long to import

        return Scoring.of(self.config.agglomerate.scoring, self.run["affinity_dtype"])

    @functools.cached_property
    def mask(self) -> volume.Volume | None:
        """The mask, if there is one."""
        url = self.config.volume.mask
        return None if url is None else volume.open_volume(url)

    def read(self, name: str, roi: Roi) -> np.ndarray[Any, Any]:
        """Voxels of the run's own array `name`; leading axes come whole."""
        return self._array(name).read(roi)

    def write(
        self,
        name: str,
        block: Block,
        data: np.ndarray[Any, Any],
        names: np.ndarray[Any, Any] | None = None,
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
        data: np.ndarray[Any, Any],
        names: np.ndarray[Any, Any] | None = None,
    ) -> None:
        """Write whole shards of the array `name`."""
        written = self._array(name).write(roi, data, names)
        self.checksum = zlib.crc32(written.to_bytes(4, "little"), self.checksum)

    def _array(self, name: str) -> volume.OutputArray:
        if name not in self._arrays:
            self._arrays[name] = volume.open_output(self.out, name)
        return self._arrays[name]

    @functools.cached_property
    def _arrays(self) -> dict[str, volume.OutputArray]:
        return {}

    def pyramid_factors(self, level: int) -> Zyx:
        """How much coarser than the volume a level of the segmentation's pyramid is, z y x."""
        return zyx(self.run["pyramid"][level])

    # tables ----------------------------------------------------------------------------------

    def table_path(self, kind: str, level: int, cell: Zyx) -> Path:
        """Where the table `kind` of one block lies."""
        return self.table_folder(kind) / f"level-{level}" / f"{'.'.join(map(str, cell))}.parquet"

    def table_folder(self, kind: str) -> Path:
        """Where the table `kind` of all blocks lies: beside the arrays where users look for it."""
        return self.out / kind if kind == "segments" else self.out / "graph" / kind

    def read_table(
        self, kind: str, level: int, cell: Zyx, columns: tuple[str, ...] | None = None
    ) -> Table:
        """The table `kind` of the block at `cell` of `level`, or some of its columns."""
        return tables.read(self.table_path(kind, level, cell), columns)

    def write_table(
        self, kind: str, block: Block, table: Mapping[str, np.ndarray[Any, Any]]
    ) -> None:
        """Write the table `kind` of `block`."""
        tables.write(self.table_path(kind, block.level, block.cell), table)
        for column in table.values():
            self.checksum = zlib.crc32(np.ascontiguousarray(column).data, self.checksum)

    # records ---------------------------------------------------------------------------------

    def record_path(self, step: str, cell: Zyx) -> Path:
        """Where the done-record of one block lies."""
        return self.out / "records" / step / f"{'.'.join(map(str, cell))}.json"

    def record(self, step: str, stage: str, cell: Zyx) -> dict[str, Any] | None:
        """The done-record of a block, or None where the block is not done."""
        try:
            record = json.loads(self.record_path(step, cell).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return record if record.get("identity") == self.identity(stage) else None

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
        tables.replace(self.record_path(step, block.cell), json.dumps(record).encode())
