"""The rows of the kinds of steps say what blocks do: no more, and no less."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import real_run as real

from cadseg.pipeline.execution.serial import needs
from cadseg.pipeline.layout import create_arrays
from cadseg.pipeline.prepare import prepare
from cadseg.storage import group
from cadseg.workers import manifest
from cadseg.workers.arrays import ARRAYS
from cadseg.workers.kinds import KINDS
from cadseg.workers.process import process
from cadseg.workers.stages import STAGES, steps_of
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from cadseg.blocks import Block, Roi, Zyx
    from cadseg.storage.checksums import Written
    from cadseg.storage.columns import Table
    from cadseg.workers.step import Step, StepKind

DOCS = real.ROOT / "docs" / "on-disk.md"


Place = tuple[str, "Zyx"]
"""A block of a step: the step's name, and the cell."""


@dataclass
class Witness(Store):
    """A run's folder that notes what steps do.

    Attributes:
        seen: by kind of step, what it reads and writes.
        wrong: reads beyond the halo, and of what a block does not wait for.
    """

    seen: dict[str, dict[str, set[str]]] = field(default_factory=dict, init=False)
    wrong: list[str] = field(default_factory=list, init=False)

    def run(self, step: Step, cell: Zyx, awaited: set[Place]) -> None:
        """Compute a block."""
        self.step, self.place, self.awaited = step, (step.name, cell), awaited
        self.block = self.grid.block(step.level, cell, step.halo)
        process(self, step, cell)

    def note(self, what: str, name: str) -> None:
        of_kind = self.seen.setdefault(self.step.kind.name, {})
        of_kind.setdefault(what, set()).add(name.partition("/")[0])

    def written(self, step: Step, cell: Zyx, name: str) -> Written:
        if (step.name, cell) not in {*self.awaited, self.place}:
            self.wrong.append(f"{self.place} reads {name} of {step.name} {cell}")
        return super().written(step, cell, name)

    def read(self, name: str, roi: Roi) -> np.ndarray[Any, Any]:
        self.note("reads", name)
        # voxels of the pyramid are those of a coarser array
        if self.step.kind.name != "pyramid" and not self.block.read.contains(roi):
            self.wrong.append(f"{self.place} reads {name} {roi} beyond its halo")
        return super().read(name, roi)

    def read_table(
        self, kind: str, level: int, cell: Zyx, columns: tuple[str, ...] | None = None
    ) -> Table:
        self.note("reads_tables", kind)
        return super().read_table(kind, level, cell, columns)

    def parts_of(
        self, kind: str, level: int, cell: Zyx, columns: tuple[str, ...] | None = None
    ) -> Iterator[Table]:
        self.note("reads_tables", kind)
        return super().parts_of(kind, level, cell, columns)

    def rows_between(self, kind: str, level: int, cell: Zyx, begin: int, end: int) -> Table:
        self.note("reads_tables", kind)
        return super().rows_between(kind, level, cell, begin, end)

    def write_record(
        self, step: Step, block: Block, files: Mapping[str, Written], *more: Any
    ) -> None:
        super().write_record(step, block, files, *more)
        for name in step.kind.writes if any("/c/" in name for name in files) else ():
            self.note("writes", name)
        for kind in step.kind.tables:
            self.rows_of(kind, step.level, block.cell)
            self.note("tables", kind)


def witnessed(folder: Path, volume: Path, source: str, *changes: str) -> Witness:
    """A run that has noted what its blocks did."""
    overrides = (*real.SETS, "block_shape=[6, 32, 20]", *changes)
    ready = prepare(str(volume), source=source, out=folder, config="ssem", overrides=overrides)
    group.ensure_group(ready.store.files)
    manifest.write(ready.store.files, ready.store.manifest)
    create_arrays(ready.store)
    store = Witness.open(ready.out)
    assert isinstance(store, Witness)
    awaited: dict[Place, set[Place]] = {}
    known = {step.name: step for step in steps_of(store)}
    for step in known.values():
        for cell in store.grid.cells(step.level):
            found: set[Place] = set()
            for up in step.after:
                for need in needs(store.grid, step, cell, known[up]):
                    found |= {(up, need), *awaited[up, need]}
            awaited[step.name, cell] = found
            store.run(step, cell, found)
    return store


TILES = ("predict.tile=[64, 112]", "predict.halo=16", "predict.exact_tiling=false")
RUNS = {
    "exact": ("raw", *TILES, "segment.min_voxels=50", "segment.pyramid_levels=2"),
    "fused": ("raw", *TILES, "predict.keep_affinities=false"),
    "in_3d": ("affinities", "fragments.dimensions=3"),
    "waterz": ("raw", *TILES, "agglomerate.engine=waterz", "volume.roi=[[1, 9], [5, 40], [9, 90]]"),
}
"""Runs that together have all kinds of steps: what each starts from, and its config."""


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, student: Path, fib25_raw: real.Array
) -> dict[str, Witness]:
    """All of them."""
    folder, shape = tmp_path_factory.mktemp("kinds"), (12, 40, 100)
    real.volume(folder / "raw", fib25_raw[tuple(map(slice, shape))])
    real.volume(folder / "affinities", real.affinities(shape))
    weights = f"predict.weights={student}"
    return {
        name: witnessed(folder / name, folder / source, source, weights, *more)
        for name, (source, *more) in RUNS.items()
    }


@pytest.fixture(scope="module")
def seen(runs: dict[str, Witness]) -> dict[str, dict[str, set[str]]]:
    """By kind of step, what its blocks did."""
    found: dict[str, dict[str, set[str]]] = {}
    for store in runs.values():
        for kind, did in store.seen.items():
            for what, names in did.items():
                found.setdefault(kind, {}).setdefault(what, set()).update(names)
    return found


@pytest.mark.parametrize("name", RUNS)
def test_blocks_wait_for_what_they_read(name: str, runs: dict[str, Witness]) -> None:
    """A block reads what lies in its halo, made by blocks that it or one before it waits for."""
    assert runs[name].grid.top > 2
    assert runs[name].wrong == []


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_row_says_what_blocks_do(kind: StepKind, seen: dict[str, dict[str, set[str]]]) -> None:
    """What blocks of a kind read and write is what its row says."""
    did = seen[kind.name]
    for what in ("reads", "writes", "reads_tables", "tables"):
        assert set(getattr(kind, what)) == did.get(what, set()), f"{kind.name} {what}"


def test_what_is_read_is_written_by_a_kind() -> None:
    """Every array and table that some kind reads, another or the same one writes."""
    written = {name for kind in KINDS.values() for name in (*kind.writes, *kind.tables)}
    read = {name for kind in KINDS.values() for name in (*kind.reads, *kind.reads_tables)}
    assert read <= written
    assert {name for kind in KINDS.values() for name in kind.writes} == set(ARRAYS)


def test_every_kind_belongs_to_one_stage() -> None:
    """The stages' kinds are all kinds, each once, so that redoing a stage deletes what it left."""
    assert [kind.name for stage in STAGES.values() for kind in stage.kinds] == [*KINDS]


def test_the_docs_list_the_kinds() -> None:
    """docs/on-disk.md shows the rows of all kinds as they are."""
    rows = ["| stage | step | reads | writes |", "|---|---|---|---|"]
    for stage in STAGES.values():
        for kind in stage.kinds:
            name = f"`{kind.name}-K`" if kind.on_levels else f"`{kind.name}`"
            sides = ((kind.reads, kind.reads_tables), (kind.writes, kind.tables))
            reads, writes = (" ".join([*(f"**{a}**" for a in arrays), *ts]) for arrays, ts in sides)
            rows.append(f"| {stage.name} | {name} | {reads} | {writes} |")
    assert "\n".join(rows) in DOCS.read_text("utf-8")
