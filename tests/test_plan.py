"""A plan is plain data, says what a run will do, and touches nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cadseg.blocks import Roi, Zyx
from cadseg.pipeline.plan import plan
from cadseg.pipeline.prepare import PreparedRun, prepare
from cadseg.pipeline.run import Execution, execute
from cadseg.storage import outputs
from cadseg.storage.local_files import LocalFiles
from cadseg.workers.stages import steps_of

if TYPE_CHECKING:
    from pathlib import Path

SHAPE: Zyx = (9, 40, 50)
GIGA = 10**9


def prepared_run(folder: Path, shape: Zyx, *changes: str, written: bool = False) -> PreparedRun:
    """A run on affinities of `shape`; without `written` there is not one voxel on disk."""
    output = outputs.create_output(
        LocalFiles(folder), "affinities", lead=(3,), shape=shape, dtype="uint8", shard=(9, 128, 128)
    )
    if written:
        rng = np.random.default_rng(0)
        with output.files.batch() as batch:
            output.write(batch, Roi((0, 0, 0), shape), rng.integers(0, 256, (3, *shape), np.uint8))
    return prepare(
        str(folder / "affinities"),
        source="affinities",
        out=folder / "out",
        overrides=("volume.voxel_size=[40, 4, 4]", *changes),
    )


def test_a_plan_counts_what_a_run_then_does(tmp_path: Path) -> None:
    """Blocks of every step, and files at the end, are those of the finished run."""
    changes = ("block_shape=[4, 16, 32]", "volume.roi=[[0, 9], [8, 40], [0, 50]]")
    changes += ("segment.min_voxels=9",)  # all steps that there are
    prepared = prepared_run(tmp_path, SHAPE, *changes, written=True)
    planned = plan(prepared)
    execute(prepared, Execution(serial=True))
    for step in planned.steps:
        records = list((tmp_path / "out/records" / step.name).rglob("*.json"))
        assert len(records) == step.blocks, step.name
    kinds = ("**/*.parquet", "tables/**/*.columns", "records/**/*.json")
    rows = sum(len(list((tmp_path / "out").glob(kind))) for kind in kinds)
    shards = [path for path in (tmp_path / "out").glob("**/c/**/*") if path.is_file()]
    assert len(shards) <= planned.files - rows  # a shard of zeros is no file
    assert sum(path.stat().st_size for path in shards) < planned.disk_limit


def test_a_plan_writes_nothing_and_is_the_same_twice(tmp_path: Path) -> None:
    """Planning leaves no folder, and equal runs have equal plans."""
    prepared = prepared_run(tmp_path, SHAPE)
    first = plan(prepared, 3)
    assert not (tmp_path / "out").exists()
    assert replace(plan(prepared, 3), disk_free=first.disk_free) == first
    assert replace(first, workers=4) == replace(plan(prepared, 4), disk_free=first.disk_free)


def test_bytes_of_arrays_are_exact(tmp_path: Path) -> None:
    """Each step reads and writes its arrays once, but for the halos."""
    prepared = prepared_run(
        tmp_path, (8, 64, 64), "block_shape=[4, 64, 32]", "segment.pyramid_levels=1"
    )
    steps = {step.name: step for step in plan(prepared).steps}
    voxels = 8 * 64 * 64
    wide = 8 * 64 * 64 * 2  # blocks of 32 columns and a halo of 34 see all 64
    assert (steps["climb"].read, steps["climb"].written) == (3 * wide, 4 * voxels)
    assert (steps["fragments"].read, steps["fragments"].written) == (4 * voxels, 8 * voxels)
    assert steps["pyramid-1"].written == 8 * voxels // 4
    assert steps["edges"].read >= 3 * 4 * (2 * 64 * 64 // 2 + 8 * 64)  # three planes per face
    assert steps["edges"].written == 0


def test_default_blocks_take_at_most_4_gib(tmp_path: Path) -> None:
    """In a volume of a teravoxel, with default blocks, no step on single blocks takes more."""
    prepared = prepared_run(tmp_path, (1000, 32_000, 32_000))
    planned = plan(prepared, 1)
    single = [s for s in steps_of(prepared.store) if s.level == 0]
    memory = {step.name: step.memory for step in planned.steps}
    assert planned.steps[0].voxels == 48 * 1024 * 1024
    assert max(memory[step.name] for step in single) <= 4 * 2**30


@pytest.mark.parametrize("gigabytes", [1.0, 3.0])
def test_upper_levels_keep_the_stated_budget(tmp_path: Path, gigabytes: float) -> None:
    """In a petavoxel a step of an upper level takes its budget, and beside it some parts."""
    changes = (f"agglomerate.memory_gb={gigabytes}", "segment.min_voxels=9")
    prepared = prepared_run(tmp_path, (10_000, 320_000, 320_000), *changes)
    memory = {step.name: step.memory for step in plan(prepared).steps}
    top = prepared.store.grid.top
    for kind in ("resolve_up", "resolve_down", "agglomerate", "absorb_small", "cut"):
        assert memory[f"{kind}-{top}"] == memory[f"{kind}-{top - 1}"]
        assert gigabytes * GIGA < memory[f"{kind}-{top}"] < gigabytes * GIGA + GIGA
    assert memory[f"measure-{top}"] < GIGA


def test_memory_follows_the_block(tmp_path: Path) -> None:
    """A block of 8 times the voxels takes more, a volume of 8 times the voxels does not."""
    shape = (96, 2048, 2048)
    memory = [
        {step.name: step.memory for step in plan(prepared_run(tmp_path / name, size, block)).steps}
        for name, size, block in (
            ("small", shape, "block_shape=[24, 256, 256]"),
            ("large", (192, 4096, 4096), "block_shape=[24, 256, 256]"),
            ("coarse", shape, "block_shape=[48, 512, 512]"),
        )
    ]
    for name in ("climb", "fragments", "edges", "agglomerate-0", "segment", "pyramid-1"):
        assert memory[0][name] == memory[1][name] < memory[2][name]


def test_what_works_at_once_is_added_up(tmp_path: Path) -> None:
    """A step with one block counts once, however many workers there are."""
    planned = plan(prepared_run(tmp_path, SHAPE))
    steps = [replace(planned.steps[0], memory=m, blocks=n) for m, n in ((7, 1), (3, 2), (1, 9))]
    some = replace(planned, steps=tuple(steps))
    assert [some.memory_of(workers) for workers in (1, 2, 3, 4, 20)] == [7, 10, 13, 14, 22]


def test_advice_is_given_where_something_does_not_fit(tmp_path: Path) -> None:
    """Too many workers, a block that is too large and a small disk are each said in one line."""
    planned = plan(prepared_run(tmp_path, SHAPE, "block_shape=[4, 16, 32]"))
    fits = replace(planned, ram=planned.memory_of(10), disk_free=planned.disk, workers=10)
    assert fits.advice == ()
    (line,) = replace(fits, workers=11).advice
    assert "--workers 10" in line
    for budgeted, key in ((False, "block_shape"), (True, "agglomerate.memory_gb")):
        steps = tuple(replace(step, budgeted=budgeted) for step in planned.steps)
        (line,) = replace(fits, steps=steps, ram=planned.memory - 1).advice
        assert key in line
    (line,) = replace(fits, disk_free=planned.disk - 1).advice
    assert "--out" in line
