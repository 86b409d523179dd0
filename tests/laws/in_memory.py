"""A run's folder in memory, and its steps one block after the other: the real workers, no disk."""

from __future__ import annotations

import random
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg import config as configs
from cadseg.agglomeration.scoring import METHODS, Scoring
from cadseg.blocks import Block, Roi, Zyx
from cadseg.graph import cluster_graph
from cadseg.graph.edges import Edges, edges_of, pairs_inside
from cadseg.storage.columns import PART
from cadseg.storage.local_files import LocalFiles
from cadseg.workers.climb import rim
from cadseg.workers.manifest import Manifest
from cadseg.workers.stages import steps_of
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cadseg.config import Config
    from cadseg.storage.columns import Table


class MemoryStore(Store):
    """A run on affinities (or on given fragments) whose arrays and tables are dicts."""

    def __init__(
        self,
        affinities: np.ndarray[Any, Any],
        *,
        block_shape: Zyx,
        overrides: tuple[str, ...] = (),
        roi: Roi | None = None,
        mask: np.ndarray[Any, Any] | None = None,
    ) -> None:
        shape = affinities.shape[1:]
        sets = (f"block_shape={list(block_shape)}", "segment.pyramid_levels=0", *overrides)
        self.manifest = of_affinities(shape, roi or Roi((0, 0, 0), shape), sets)
        self.files = LocalFiles(tempfile.gettempdir())  # for arrays beyond the memory's budget
        self.affinities = affinities
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.tables: dict[tuple[str, int, Zyx], Table] = {}
        self.__dict__["mask"] = None if mask is None else _Array(mask)

    def use(self, config: Config) -> None:
        """From now on the run has these numbers, but for its blocks."""
        config = config.model_copy(update={"block_shape": self.config.block_shape})
        self.manifest = self.manifest.model_copy(update={"config": config})

    @property
    def scoring(self) -> Scoring:
        return Scoring.of(self.config.agglomerate.scoring, self.affinities.dtype)

    def read_affinities(self, roi: Roi) -> np.ndarray[Any, Any]:
        return self.affinities[(slice(None), *roi.slices())]

    def read(self, name: str, roi: Roi) -> np.ndarray[Any, Any]:
        return self.arrays[name][roi.slices()].copy()

    def read_table(
        self, kind: str, level: int, cell: Zyx, columns: tuple[str, ...] | None = None
    ) -> Table:
        table = self.tables[kind, level, cell]
        return {name: table[name].copy() for name in columns or table}

    def parts_of(
        self, kind: str, level: int, cell: Zyx, columns: tuple[str, ...] | None = None
    ) -> Iterator[Table]:
        table = self.read_table(kind, level, cell, columns)
        for begin in range(0, self.rows_of(kind, level, cell), PART):
            yield {name: column[begin : begin + PART] for name, column in table.items()}

    def rows_of(self, kind: str, level: int, cell: Zyx) -> int:
        return next(iter(self.tables[kind, level, cell].values())).size

    def rows_between(self, kind: str, level: int, cell: Zyx, begin: int, end: int) -> Table:
        table = self.tables[kind, level, cell]
        return {name: column[begin:end].copy() for name, column in table.items()}

    def run_all(self, *, seed: int = 0, first: str | None = None) -> MemoryStore:
        """Every block of every step, blocks of a step in shuffled order."""
        order = random.Random(seed)
        steps = steps_of(self)
        names = [step.name for step in steps]
        for step in steps[names.index(first) if first else 0 :]:
            cells = list(self.grid.cells(step.level))
            order.shuffle(cells)
            for cell in cells:
                block = self.grid.block(step.level, cell, step.halo)
                step.kind.run(block, self, MemoryWriter(self, block))
        return self

    def cut(self, threshold: float) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """The segmentation of a finished run at another threshold: only the last stage again."""
        tree = self.config.model_dump()
        tree["segment"]["threshold"] = threshold
        self.use(configs.from_tree(tree, "test"))
        first = next(step.name for step in steps_of(self) if step.stage == "segment")
        return self.run_all(first=first).arrays["segmentation/0"].copy()

    def take(self, fragments: np.ndarray[Any, np.dtype[np.uint64]]) -> None:
        """Stand in for the climb: these fragments, numbered block by block."""
        none = np.empty(0, np.uint64)
        for level in range(self.grid.top + 1):
            for cell in self.grid.cells(level):
                block = self.grid.block(level, cell)
                out = MemoryWriter(self, block)
                out.table("exits", {"exit": none})
                out.table("roots", {"root": none})
                out.table("roots_begins", {"begin": np.zeros(9, np.uint64)})
        for cell in self.grid.cells(0):
            block = self.grid.block(0, cell)
            names, numbers = numbered(fragments[block.write.slices()])
            affinities = self.read_affinities(block.write)
            out = MemoryWriter(self, block)
            out.array("basins", numbers)
            out.table("basins", {"id": names[1:]})
            out.table("pairs", vars(pairs_inside(affinities, numbers)))
            out.table("rim", {"affinity": rim(affinities, block, self)})

    def edges(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Rows (u, v, sum, count, max) of the graph, sorted, those of all blocks joined."""
        tables = [table for (kind, *_), table in self.tables.items() if kind == "edges"]
        rows = cluster_graph.joined(
            [METHODS["median"].from_edges(Edges(**table)) for table in tables]
        )
        return np.stack([rows.u, rows.v, rows.sum, rows.count, rows.bin.astype(np.uint64)], 1)

    def merges(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Rows (fragment, parent, key_u, key_v, sum, count) of the merge tree, sorted."""
        return self.column("merges", "fragment", "parent", "key_u", "key_v", "sum", "count")

    @property
    def results(self) -> dict[str, np.ndarray[Any, Any]]:
        """What a run is for."""
        return {
            "fragments": self.arrays["fragments"],
            "edges": self.edges(),
            "merges": self.merges(),
            "segmentation": self.arrays["segmentation/0"],
        }

    def column(self, kind: str, *names: str, level: int | None = None) -> np.ndarray[Any, Any]:
        """Sorted rows [n, len(names)] of a table, of all its blocks together."""
        parts = [
            np.stack([table[name].astype(np.uint64) for name in names], 1)
            for (table_kind, table_level, _), table in self.tables.items()
            if table_kind == kind and level in (None, table_level)
        ]
        rows = np.concatenate(parts)
        return rows[np.lexsort(rows.T[::-1])]


class MemoryWriter:
    """What a block writes, into the dicts of a store."""

    def __init__(self, store: MemoryStore, block: Block) -> None:
        self._store, self._block = store, block
        self._begun: set[str] = set()

    def array(self, name: str, data: Any, names: Any = None) -> None:
        data = data if names is None else names[data]
        empty = np.zeros(self._store.grid.shape, data.dtype)
        self._store.arrays.setdefault(name, empty)[self._block.write.slices()] = data

    def table(self, kind: str, rows: Any) -> None:
        key = kind, self._block.level, self._block.cell
        if kind in self._begun:
            known = self._store.tables[key]
            rows = {name: np.concatenate((known[name], rows[name])) for name in known}
        self._begun.add(kind)
        self._store.tables[key] = dict(rows)


def of_affinities(shape: Zyx, roi: Roi, overrides: Sequence[str]) -> Manifest:
    """A run that starts from affinities and has no stages yet."""
    z, y, x = zip(roi.begin, roi.end, strict=True)
    return Manifest(
        schema=1,
        cadseg="test",
        source="affinities",
        volume="nowhere",
        shape=shape,
        roi=(z, y, x),
        voxel_size_nm=(1, 1, 1),
        offset_nm=(0, 0, 0),
        pyramid=((1, 1, 1),),
        config=configs.load("ssem", overrides),
        network=None,
        stages={},
    )


class _Array:
    def __init__(self, data: np.ndarray[Any, Any]) -> None:
        self.data = data

    def read(self, roi: Roi) -> np.ndarray[Any, Any]:
        return self.data[roi.slices()]


def whole_edges(affinities: np.ndarray[Any, Any], ids: np.ndarray[Any, Any]) -> Edges:
    """The edges of a volume in one block."""
    names, numbers = numbered(ids)
    return edges_of([pairs_inside(affinities, numbers)], names)


def numbered(ids: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Ids by number, 0 for 0, and every voxel's number."""
    names = np.unique(np.append(np.uint64(0), ids))
    return names, np.searchsorted(names, ids).astype(np.uint32)
