"""Law 1 with real processes: workers and their order change nothing on disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from cadseg.blocks import Roi, zyx
from cadseg.pipeline.execution.driver import Execution, run_steps
from cadseg.pipeline.execution.progress import Progress
from cadseg.pipeline.run import segment
from cadseg.storage import outputs
from cadseg.storage.local_files import LocalFiles
from cadseg.storage.tables import TableFile
from cadseg.workers.stages import steps_of
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]

BLOCK = (7, 61, 37)
OVERRIDES = ("volume.voxel_size=[10, 10, 10]", "segment.pyramid_levels=1", "fragments.sigma=1.0")


@pytest.fixture
def affinities(tmp_path: Path, fib25_affinities: Array) -> Path:
    """A part of the real crop as a Zarr array."""
    part = np.ascontiguousarray(fib25_affinities[:, :12, :90, :90])
    zarr.create_array(store=tmp_path / "affinities.zarr", data=part, chunks=(3, 5, 40, 40))
    return tmp_path / "affinities.zarr"


def request(out: Path, block: tuple[int, int, int] = BLOCK) -> dict[str, Any]:
    overrides = (*OVERRIDES, f"block_shape={list(block)}")
    return {"out": out, "config": "ssem", "overrides": overrides}


def results(out: Path) -> dict[str, Array]:
    """The arrays, and the merge tree."""
    files = LocalFiles(out)
    paths = sorted((out / "graph" / "merges").rglob("*.parquet"))
    merges = [TableFile(files, path.relative_to(out).as_posix()).read() for path in paths]
    columns = [
        np.concatenate([t[c] for t in merges]) for c in ("fragment", "parent", "sum", "count")
    ]
    rows = np.stack(columns, 1)
    found = {"merges": rows[np.lexsort(rows.T[::-1])]}
    for name in ("fragments", "segmentation/0", "segmentation/1"):
        array = outputs.open_output(files, name)
        found[name] = array.read(Roi((0, 0, 0), zyx(array.layout.shape[-3:])))
    return found


def contents(out: Path) -> dict[str, bytes]:
    """All of the run's arrays and tables, byte by byte."""
    folders = ("fragments", "segmentation", "graph")
    paths = [path for f in folders for path in (out / f).rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def shuffled(url: str, out: Path, order: int) -> None:
    """All blocks in this process, in the folder of a run whose results are gone, shuffled."""
    segment(url, Execution(serial=True), **request(out))
    for folder in [out / "records", out / "graph", *out.rglob("c")]:
        shutil.rmtree(folder)
    steps = steps_of(Store.open(out))
    found = run_steps(
        out, steps, Execution(workers=1, serial=True, progress=Progress()), order=order
    )
    assert all(step.done == step.total for step in found.values())


@pytest.mark.slow
def test_workers_and_order_change_no_byte(tmp_path: Path, affinities: Path) -> None:
    """One worker, three, or shuffled blocks in this process: the same files, and the uncut ids."""
    url = str(affinities)
    outs = [tmp_path / name for name in ("one.zarr", "three.zarr", "serial.zarr", "whole.zarr")]
    segment(url, Execution(workers=1), **request(outs[0]))
    segment(url, Execution(workers=3), **request(outs[1]))
    shuffled(url, outs[2], order=7)
    segment(url, Execution(serial=True), **request(outs[3], (12, 90, 90)))
    expected = contents(outs[0])
    assert len(expected) > 50
    for out in outs[1:3]:
        assert contents(out) == expected
    whole = results(outs[3])
    for name, array in results(outs[0]).items():
        np.testing.assert_array_equal(array, whole[name], name)
