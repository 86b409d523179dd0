"""Everything a block can read: one run, opened once per worker process.

A run has ``run.json`` (`cadseg.workers.manifest`), a Zarr array per array-valued stage, tables
(`cadseg.workers.names`), and a record per block (`cadseg.workers.records`). A block is done when
its record is there and carries the identity that its stage has now.

Nothing is believed: whoever reads a file asks for the record of the block that wrote it, and
compares. Where the record is missing, or the file is not what it says, that block is *lost*.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Block, Grid, Roi, Zyx, zyx
from cadseg.errors import OutputError
from cadseg.storage import group, inputs, outputs, volume
from cadseg.storage.checksums import DamagedError, Written
from cadseg.storage.columns import ColumnFile, Table
from cadseg.storage.files import Files, open_files
from cadseg.storage.tables import TableFile
from cadseg.workers import manifest as manifests
from cadseg.workers import records
from cadseg.workers.arrays import ARRAYS
from cadseg.workers.lookup import Lookup
from cadseg.workers.names import FOR_USERS, columns_name, files_of, table_name
from cadseg.workers.records import LostBlockError, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cadseg.agglomeration.scoring import Scoring
    from cadseg.arrays import Array
    from cadseg.config import Config
    from cadseg.workers.manifest import Manifest, Origin
    from cadseg.workers.step import Step


@dataclass
class Store:
    """One run.

    Attributes:
        files: where it lies.
        manifest: what it is.
    """

    files: Files
    manifest: Manifest

    @classmethod
    def open(cls, out: str | Path) -> Store:
        """The run at the address `out`.

        Raises:
            OutputError: there is none, or one of another version.
        """
        files = open_files(out)
        group.check_layout(files)
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
        """Voxels of the run's own array `name`; leading axes come whole.

        Raises:
            LostBlockError: a block under `roi` is not done, or has not written what is there.
        """
        step = self.producers[name]
        shards = zyx(self.array(name).layout.shard[-3:])
        cells = self.grid.cell_shape(step.level)
        factors = self.pyramid_factors(int(name.rpartition("/")[2])) if "/" in name else (1, 1, 1)

        def cell_of(shard: str) -> Zyx:
            """The block that writes a shard."""
            places = zip(shard.split("/")[-3:], shards, factors, cells, strict=True)
            return zyx(int(place) * n * f // cell for place, n, f, cell in places)

        with self._blaming(step, cell_of):
            return self.array(name).read(
                roi, lambda shard: self.written(step, cell_of(shard), shard)
            )

    def array(self, name: str) -> outputs.OutputArray:
        """The run's own array `name`, to be read without looking at records."""
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

    def read_table(
        self, kind: str, level: int, cell: Zyx, columns: tuple[str, ...] | None = None
    ) -> Table:
        """The table `kind` of the block at `cell` of `level`, or some of its columns.

        Raises:
            LostBlockError: the block is not done, or has not written what is there.
        """
        step = self.producers[kind, level]
        with self._blaming(step, lambda _: cell):
            file = self._table_file(kind, step, cell)
            return file.read(columns) if isinstance(file, TableFile) else file.read(kind, columns)

    def parts_of(
        self, kind: str, level: int, cell: Zyx, columns: tuple[str, ...] | None = None
    ) -> Iterator[Table]:
        """The same, some rows at a time."""
        step = self.producers[kind, level]
        with self._blaming(step, lambda _: cell):
            file = self._table_file(kind, step, cell)
            yield from (
                file.parts(columns) if isinstance(file, TableFile) else file.parts(kind, columns)
            )

    def rows_of(self, kind: str, level: int, cell: Zyx) -> int:
        """How many rows a table has."""
        step = self.producers[kind, level]
        with self._blaming(step, lambda _: cell):
            file = self._table_file(kind, step, cell)
            return file.rows if isinstance(file, TableFile) else file.rows(kind)

    def rows_between(self, kind: str, level: int, cell: Zyx, begin: int, end: int) -> Table:
        """Rows `begin` to `end` of a table that only cadseg reads."""
        step = self.producers[kind, level]
        with self._blaming(step, lambda _: cell):
            file = self._table_file(kind, step, cell)
            assert isinstance(file, ColumnFile), f"{kind} is read as a whole, or in parts"
            return file.between(kind, begin, end)

    def _table_file(self, kind: str, step: Step, cell: Zyx) -> TableFile | ColumnFile:
        if kind in FOR_USERS:
            name = table_name(kind, step.level, cell)
            return TableFile(self.files, name, self.written(step, cell, name))
        name = columns_name(step.name, cell)
        read = functools.partial(self.files.read_ranges, name)
        return ColumnFile(name, read, self.written(step, cell, name))

    @functools.cached_property
    def producers(self) -> dict[str | tuple[str, int], Step]:
        """By the name of an array, or the kind and level of a table, the step that writes it."""
        from cadseg.workers.stages import steps_of  # which knows all kinds, and so their kernels

        found: dict[str | tuple[str, int], Step] = {}
        for step in steps_of(self):
            found |= {(table, step.level): step for table in step.kind.tables}
            for array in step.kind.writes:
                found[f"{array}/{step.level}" if ARRAYS[array].pyramid else array] = step
        return found

    def record(self, step: Step, cell: Zyx) -> Record | None:
        """The record of a block, or None where the block is not done."""
        return self._lookup.record(step, cell, self.identity(step.stage))

    def forget(self, step: str, cell: Zyx) -> None:
        """The record of a block was removed."""
        self._lookup.forget(step, cell)

    def written(self, step: Step, cell: Zyx, name: str) -> Written:
        """What the file `name` of a block must be.

        Raises:
            LostBlockError: the block is not done.
        """
        record = self.record(step, cell)
        if record is None:
            raise LostBlockError(step.name, cell, name, "its block is not done")
        if name not in record.files:
            raise LostBlockError(step.name, cell, name, "the record of its block does not list it")
        return record.files[name]

    def files_of(self, step: Step, cell: Zyx) -> list[str]:
        """All files that a block may write, as many and in the same order for all of its step."""
        return [name for (name,) in self.names_of(step, [cell])]

    def names_of(self, step: Step, cells: Sequence[Zyx]) -> list[list[str]]:
        """The same for blocks of one super-cell: for each file, its names for all of them."""
        return files_of(step, cells, self.manifest.pyramid)

    def write_record(
        self,
        step: Step,
        block: Block,
        files: Mapping[str, Written],
        counts: Mapping[str, int],
        seconds: float,
    ) -> None:
        """Write the record of `block`: from now on it is done."""
        assert set(files) <= set(self.files_of(step, block.cell)), f"{step.name} wrote {set(files)}"
        identity = self.identity(step.stage)
        record = Record(identity, block.write.size, round(seconds, 6), dict(counts), files)
        records.write(self.files, step.name, block.cell, record)

    @functools.cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.files, self.manifest.pyramid)

    @contextlib.contextmanager
    def _blaming(self, step: Step, cell_of: Callable[[str], Zyx]) -> Iterator[None]:
        """Say which block has to be computed again when one of its files is damaged."""
        try:
            yield
        except DamagedError as error:
            cell = cell_of(error.name)
            raise LostBlockError(step.name, cell, error.name, error.reason) from None
