"""The rows of the kinds of steps say what blocks do: no more, and no less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import real_run as real

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


class Witness(Store):
    """A run's folder that notes what the step at work does, and keeps it within its halo."""

    def begin(self, step: Step, block: Block) -> None:
        self.kind, self.block = step.kind, block
        self.__dict__.setdefault("seen", {})

    def note(self, what: str, name: str) -> None:
        seen: dict[str, dict[str, set[str]]] = self.__dict__["seen"]
        of_kind = seen.setdefault(self.kind.name, {})
        of_kind.setdefault(what, set()).add(name.partition("/")[0])

    def read(self, name: str, roi: Roi) -> np.ndarray[Any, Any]:
        self.note("reads", name)
        if self.kind.name != "pyramid":  # whose voxels are those of a coarser array
            assert self.block.read.contains(roi), f"{self.kind.name} reads beyond its halo"
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
            level = step.level
            self.rows_of(kind, level, block.cell)
            self.note("tables", kind)


def witnessed(folder: Path, raw: Path, *changes: str) -> dict[str, dict[str, set[str]]]:
    """By kind of step, what its blocks did in a run."""
    overrides = (*real.SETS, "block_shape=[8, 32, 32]", "predict.tile=[32, 32]", *changes)
    ready = prepare(str(raw), out=folder, config="ssem", overrides=overrides)
    group.ensure_group(ready.store.files)
    manifest.write(ready.store.files, ready.store.manifest)
    create_arrays(ready.store)
    store = Witness.open(ready.out)
    assert isinstance(store, Witness)
    for step in steps_of(store):
        for cell in store.grid.cells(step.level):
            store.begin(step, store.grid.block(step.level, cell, step.halo))
            process(store, step, cell)
    return dict(store.__dict__["seen"])


@pytest.fixture(scope="module")
def seen(
    tmp_path_factory: pytest.TempPathFactory, fib25_raw: real.Array
) -> dict[str, dict[str, set[str]]]:
    """What blocks did, in runs that together have all kinds of steps."""
    folder = tmp_path_factory.mktemp("kinds")
    raw = real.volume(folder / "raw", fib25_raw[:16, :40, :144])
    weights = f"predict.weights={real.student(folder / 'w.safetensors', fib25_raw)}"
    found: dict[str, dict[str, set[str]]] = {}
    for name, more in (
        ("exact", ("segment.min_voxels=50",)),
        ("plain", ()),
        ("waterz", ("agglomerate.engine=waterz",)),
    ):
        for kind, did in witnessed(folder / name, raw, weights, *more).items():
            for what, names in did.items():
                found.setdefault(kind, {}).setdefault(what, set()).update(names)
    return found


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_row_says_what_blocks_do(kind: StepKind, seen: dict[str, dict[str, set[str]]]) -> None:
    """What blocks of a kind read and write is what its row says, within its halo."""
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
