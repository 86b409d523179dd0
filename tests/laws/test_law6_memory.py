"""Law 6: memory knows the block, not the volume; beyond its budget a graph lies on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_memory import MemoryStore
from scipy import ndimage

from cadseg.agglomeration.agglomerate import memory_for, scratch_for
from cadseg.agglomeration.scoring import METHODS
from cadseg.blocks import Roi, Zyx, zyx
from cadseg.pipeline.layout import create_arrays
from cadseg.pipeline.plan import IDLE, plan
from cadseg.pipeline.prepare import PreparedRun, prepare
from cadseg.storage import group, outputs
from cadseg.storage.local_files import LocalFiles
from cadseg.storage.scratch import Scratch
from cadseg.workers import manifest

Array = np.ndarray[Any, Any]
Peaks = dict[str, list[int]]

BLOCK: Zyx = (6, 48, 48)
ONE_HEAP = {"MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
"""For all threads: what each keeps for itself is noise beside blocks as small as these."""

NOISE = 10_000_000
"""Bytes by which two runs differ: pages of code and of threads. 40 MB are used, most of them so."""


def affinities(shape: Zyx) -> Array:
    """Cells some 12 voxels wide, [3, z, y, x] uint8."""
    coarse = zyx(-(-n // 4) for n in shape)
    noise = np.random.default_rng(0).random((3, *coarse), np.float32)
    smooth = ndimage.uniform_filter(noise, (0, 1, 3, 3)).repeat(4, 1).repeat(4, 2).repeat(4, 3)
    whole = np.clip((smooth[:, : shape[0], : shape[1], : shape[2]] - 0.35) * 4, 0, 1)
    return np.asarray(whole * 255).astype(np.uint8)


def prepared(folder: Path, blocks: int, *more: str, block: Zyx = BLOCK) -> PreparedRun:
    """A run of `blocks` blocks per axis, of which nothing is computed."""
    shape = zyx(blocks * n for n in block)
    output = outputs.create_output(
        LocalFiles(folder), "affinities", lead=(3,), shape=shape, dtype="uint8", shard=shape
    )
    with output.files.batch() as batch:
        output.write(batch, Roi((0, 0, 0), shape), affinities(shape))
    changes = ("volume.voxel_size=[40, 4, 4]", f"block_shape={list(block)}")
    changes += ("segment.min_voxels=20",)  # all steps that there are
    short = ("fragments.distance_clip=2", "fragments.sigma=0.5", "segment.pyramid_levels=1")
    ready = prepare(
        str(folder / "affinities"),
        source="affinities",
        out=folder / "out",
        overrides=(*changes, *short, *more),
    )
    group.ensure_group(ready.store.files)
    manifest.write(ready.store.files, ready.store.manifest)
    create_arrays(ready.store)
    return ready


def peaks(folder: Path, blocks: int, *more: str, block: Zyx = BLOCK) -> tuple[PreparedRun, Peaks]:
    """What each step of such a run takes: idle and at its peak, in bytes."""
    warm = prepared(folder / f"warm{blocks}", 2, *more)
    ready = prepared(folder / f"run{blocks}", blocks, *more, block=block)
    program = Path(__file__).with_name("memory_run.py")
    done = subprocess.run(
        [sys.executable, program, warm.out, ready.out],
        env={**os.environ, **ONE_HEAP},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return ready, json.loads(done.stdout)


def assert_as_planned(ready: PreparedRun, found: Peaks) -> None:
    """No step takes more than its plan said."""
    for step in plan(ready).steps:
        assert found[step.name][1] < step.memory, step.name


def test_a_worker_stays_under_its_plan(tmp_path: Path) -> None:
    """No step of a small run takes more memory than the plan said."""
    ready, found = peaks(tmp_path, 3)
    assert_as_planned(ready, found)


def test_the_engine_waterz_takes_what_its_plan_says(tmp_path: Path) -> None:
    """In blocks that count beside an idle worker, waterz takes most of what is planned, no more."""
    ready, found = peaks(tmp_path, 2, "agglomerate.engine=waterz", block=(16, 192, 192))
    assert_as_planned(ready, found)
    idle, most = found["waterz-0"]
    (planned,) = (step.memory for step in plan(ready).steps if step.name == "waterz-0")
    assert (planned - IDLE) / 3 < most - idle < planned - IDLE


@pytest.mark.slow
def test_memory_knows_the_block_not_the_volume(tmp_path: Path) -> None:
    """In a volume 8 times larger a worker takes no more, up to the first joining of blocks."""
    _, small = peaks(tmp_path, 3, block=(8, 96, 96))
    ready, large = peaks(tmp_path, 6, block=(8, 96, 96))
    assert_as_planned(ready, large)
    assert ready.store.grid.domain.size * 7 // 8 > NOISE  # one byte per voxel would be seen
    excess = {
        name: (large[name][1] - large[name][0]) - (most - idle) - max(NOISE, (most - idle) // 10)
        for name, (idle, most) in small.items()
        if not name[-1].isdigit() or int(name[-1]) <= 1
    }
    assert len(excess) == 13
    assert max(excess.values()) < 0, excess


@pytest.mark.parametrize("scoring", METHODS)
def test_where_a_graph_lies_changes_nothing(scoring: str) -> None:
    """With no memory at all for the graph, every table is the same."""
    small = f"segment.min_voxels={20 * (scoring == 'median')}"  # which adds a step, and changes one
    changes = (f"agglomerate.scoring={scoring}", "fragments.sigma=0.5", small)
    runs = [
        MemoryStore(
            affinities((8, 60, 60)), block_shape=(4, 32, 24), overrides=(*changes, *more)
        ).run_all()
        for more in ((), ("agglomerate.memory_gb=0.0000001",))
    ]
    assert runs[0].tables.keys() == runs[1].tables.keys()
    for place, table in runs[0].tables.items():
        for name, column in table.items():
            other = runs[1].tables[place][name]
            assert column.dtype == other.dtype
            np.testing.assert_array_equal(column, other, err_msg=f"{place} {name}")
    assert sum(len(t["fragment"]) for (kind, *_), t in runs[0].tables.items() if kind == "merges")


def test_the_budget_decides_once_for_a_block(tmp_path: Path) -> None:
    """Rows that fit are in memory, one more and all are in files; these leave nothing behind."""
    budget = memory_for(10, 20)
    assert scratch_for(10, 20, budget, tmp_path).folder is None
    assert scratch_for(10, 21, budget, tmp_path).folder == tmp_path
    files = scratch_for(11, 20, budget, tmp_path)
    assert files.place is np.uint32
    for rows, bins in ((1 << 31, 0), (1, (1 << 32) - 1)):  # two clusters to a row
        assert scratch_for(rows, bins, budget, tmp_path).place is np.int64
        assert scratch_for(rows - 1, bins - 1, budget, tmp_path).place is np.uint32
    array = files.full(100, 7, np.uint64)
    assert isinstance(array.base, np.memmap)
    assert (array == 7).all()
    assert not any(tmp_path.iterdir())


def test_order_is_by_the_first_key_then_the_next(tmp_path: Path) -> None:
    """Rows are ordered as numpy orders them, equal ones as they came, in memory and on disk."""
    random = np.random.default_rng(3)
    for size in (0, 1, 1000):
        keys = (random.integers(0, 9, size, np.uint64), random.integers(0, 2**60, size, np.uint64))
        keys[1][::3] = 2**63
        for scratch in (Scratch(), Scratch(tmp_path)):
            np.testing.assert_array_equal(scratch.order(*keys), np.lexsort(keys[::-1]))


@pytest.mark.parametrize("in_files", [True, False])
def test_arrays_in_files_take_no_memory(tmp_path: Path, in_files: bool) -> None:
    """A process that may grow by 200 MB holds 400 MB of arrays only where they lie in files."""
    folder = f"pathlib.Path({str(tmp_path)!r})" if in_files else None
    code = f"""
import pathlib, resource
import numpy as np
from cadseg.storage.scratch import Scratch
with open("/proc/self/statm") as file:
    data = int(file.read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (data + 200_000_000,) * 2)
scratch = Scratch({folder})
arrays = [scratch.full(10_000_000, i, np.uint64) for i in range(5)]
assert [int(array.max()) for array in arrays] == list(range(5))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == in_files, done.stderr
    assert in_files or "MemoryError" in done.stderr
