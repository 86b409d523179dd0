"""A run as a whole: begun, repeated, redone, cut elsewhere, gone on with after failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import real_run as real
import zarr

from cadseg.errors import IdentityError, OutputError
from cadseg.pipeline import run
from cadseg.workers.store import Store

BELOW = ("records/cut", "records/segment", "records/measure", "records/pyramid")


def test_a_run_makes_segments(whole: Path) -> None:
    """There are several segments, made of fragments, and each is named by its smallest fragment."""
    made = zarr.open_group(whole, mode="r")
    fragments, segments = made["fragments"][:], made["segmentation/0"][:]
    assert 1 < np.unique(segments).size < np.unique(fragments).size
    for name in np.unique(segments):
        assert fragments[segments == name].min() == name


def test_running_twice_changes_nothing(affs: Path, done: Path, whole: Path) -> None:
    """A finished run, started again, computes no block."""
    before = real.times(done)
    real.segment(affs, done)
    assert real.times(done) == before
    assert real.differing(done, whole) == []


def test_workers_and_until_are_not_identity(affs: Path, done: Path, whole: Path) -> None:
    """A finished run computes nothing where only the way to run it differs."""
    before = real.times(done)
    execution = run.Execution(workers=3, retries=5, timeout=1000, progress=real.HERE.progress)
    run.segment(str(affs), execution, out=done, overrides=real.SETS, until="edges")
    assert real.times(done) == before
    assert real.differing(done, whole) == []


def test_until_stops_and_goes_on(affs: Path, whole: Path, tmp_path: Path) -> None:
    """A run that stops after each stage and goes on ends as one that never stopped."""
    out, before = tmp_path / "o.zarr", 0
    for stage in ("fragments", "edges", "agglomerate", None):
        report = real.segment(affs, out, until=stage)
        assert real.records(out) > before
        assert (report.segmentation is None) == (stage is not None)
        before = real.records(out)
    assert real.differing(out, whole) == []


def test_a_changed_key_is_refused(affs: Path, done: Path, whole: Path) -> None:
    """The refusal names the key, what it was and what it would be; nothing is deleted."""
    with pytest.raises(IdentityError) as refusal:
        real.segment(affs, done, "fragments.sigma=0.4")
    assert "fragments.sigma (was 0.3, now 0.4)" in str(refusal.value)
    assert "redo fragments, edges, agglomerate, segment" in str(refusal.value)
    assert real.differing(done, whole) == []
    real.segment(affs, done)


def test_restart_redoes_what_is_below(affs: Path, done: Path, tmp_path: Path) -> None:
    """With a changed scoring the agglomeration and what follows are redone, and nothing else."""
    before = real.times(done)
    real.segment(affs, done, "agglomerate.scoring=mean", restart=True)
    fresh = real.segment(affs, tmp_path / "fresh.zarr", "agglomerate.scoring=mean").out
    assert real.differing(done, fresh) == []
    after = real.times(done)
    kept = {name for name in before if not name.startswith((*BELOW, "records/agglomerate"))}
    assert kept == {name for name in before if after[name] == before[name]}


def test_other_blocks_start_anew(affs: Path, done: Path, whole: Path) -> None:
    """Other blocks are another run; redone with them, the segmentation is the same."""
    other = "block_shape=[4, 42, 20]"
    with pytest.raises(IdentityError, match="block_shape"):
        real.segment(affs, done, other)
    real.segment(affs, done, other, restart=True)
    made, was = (zarr.open_group(out, mode="r") for out in (done, whole))
    for name in ("fragments", "segmentation/0", "segmentation/1"):
        assert np.array_equal(made[name][:], was[name][:])


def test_another_volume_is_refused(affs: Path, done: Path, tmp_path: Path) -> None:
    """A run does not go on with a volume of other content, wherever it lies."""
    moved = Path(shutil.copytree(affs, tmp_path / "moved.zarr"))
    before = real.times(done)
    real.segment(moved, done)
    assert real.times(done) == before
    other = real.volume(tmp_path / "other.zarr", real.affinities(seed=1))
    with pytest.raises(IdentityError, match=r"volume\.samples"):
        real.segment(other, done)


def test_a_corrected_voxel_size(affs: Path, done: Path, tmp_path: Path) -> None:
    """Another voxel size redoes the pyramid, not the fragments; all arrays say the new one."""
    size = "volume.voxel_size=[6, 6, 6]"
    with pytest.raises(IdentityError, match="voxel_size_nm"):
        real.segment(affs, done, size, config="ssem")
    before = real.times(done)
    real.segment(affs, done, size, config="ssem", restart=True)
    fresh = real.segment(affs, tmp_path / "fresh.zarr", size, config="ssem").out
    assert real.differing(done, fresh) == []
    climbed = "records/climb/0.0.0/0.0.0.json"
    assert real.times(done)[climbed] == before[climbed]


def test_relabel_is_a_fresh_run(affs: Path, done: Path, tmp_path: Path) -> None:
    """Cutting a finished tree elsewhere gives, byte for byte, a run with that threshold."""
    before = real.times(done)
    run.relabel(done, 0.7, real.HERE)
    fresh = real.segment(affs, tmp_path / "fresh.zarr", "segment.threshold=0.7").out
    assert real.differing(done, fresh) == []
    after = real.times(done)
    kept = {name for name in before if not name.startswith(BELOW)}
    assert kept == {name for name in before if after[name] == before[name]}
    real.segment(affs, done, "segment.threshold=0.7")
    assert real.times(done) == after


def test_relabel_there_and_back(done: Path, whole: Path) -> None:
    """A tree cut elsewhere and then where it was cut before gives the first segmentation."""
    run.relabel(done, 0.8, real.HERE)
    assert real.differing(done, whole)
    run.relabel(done, Store.open(whole).config.segment.threshold, real.HERE)
    assert real.differing(done, whole) == []


def test_relabel_joins_small_segments(affs: Path, done: Path, whole: Path, tmp_path: Path) -> None:
    """Cutting with another smallest size gives a run with that size, and back again the first."""
    run.relabel(done, execution=real.HERE, min_voxels=80)
    fresh = real.segment(affs, tmp_path / "fresh.zarr", "segment.min_voxels=80").out
    assert real.differing(done, fresh) == []
    assert real.differing(done, whole)
    run.relabel(done, execution=real.HERE, min_voxels=0)
    assert real.differing(done, whole) == []
    run.relabel(done, execution=real.HERE, min_voxels=80)
    assert real.differing(done, fresh) == []


def test_relabel_needs_the_folder_alone(affs: Path, tmp_path: Path) -> None:
    """A tree can be cut elsewhere when the volume has gone."""
    copy = Path(shutil.copytree(affs, tmp_path / "copy.zarr"))
    out = real.segment(copy, tmp_path / "o.zarr").out
    shutil.rmtree(copy)
    run.relabel(out, 0.8, real.HERE)
    assert "records/segment/0.0.0/0.0.0.json" in real.times(out)


def test_relabel_needs_a_tree(affs: Path, tmp_path: Path) -> None:
    """A run without a finished merge tree cannot be cut elsewhere."""
    out = real.segment(affs, tmp_path / "o.zarr", until="edges").out
    with pytest.raises(OutputError, match="no finished merge tree"):
        run.relabel(out, 0.8, real.HERE)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 17, 5), (2, 1, 40), (5, 7, 1)])
def test_odd_volumes(shape: tuple[int, int, int], tmp_path: Path) -> None:
    """Volumes of one voxel, one section, one row or one column can be segmented."""
    affs = real.volume(tmp_path / "affs.zarr", real.affinities(shape))
    out = real.segment(affs, tmp_path / "o.zarr", "block_shape=[2, 5, 5]").out
    one = real.segment(affs, tmp_path / "one.zarr", "block_shape=[9, 50, 50]").out
    cut, uncut = (zarr.open_group(path, mode="r")["segmentation/0"][:] for path in (out, one))
    assert cut.shape == shape
    assert cut.min() > 0
    assert np.array_equal(cut, uncut)


def test_a_part_of_the_volume(affs: Path, whole: Path, tmp_path: Path) -> None:
    """With a roi, only its voxels are segmented."""
    box = (slice(1, 6), slice(5, 30), slice(20, 47))
    out = real.segment(affs, tmp_path / "o.zarr", "volume.roi=[[1, 6], [5, 30], [20, 47]]").out
    made = zarr.open_group(out, mode="r")["segmentation/0"][:]
    assert made[box].min() > 0
    made[box] = 0
    assert not made.any()


def test_percolation_is_said(affs: Path, tmp_path: Path) -> None:
    """A segment that swallows more of the volume than its share is named in a warning."""
    share = "agglomerate.percolation_share=0.01"
    report = real.segment(affs, tmp_path / "o.zarr", share)
    assert "threshold" in report.warnings[0]
    run_file = json.loads(Path(report.out, "run.json").read_text())
    assert run_file["config"]["agglomerate"]["percolation_share"] == 0.01


def test_rows_of_segments_are_one_data_set(whole: Path) -> None:
    """The folder `segments` reads as one table, with a row for each segment."""
    rows = pq.read_table(whole / "segments")
    ids, voxels = np.unique(zarr.open_group(whole)["segmentation/0"][:], return_counts=True)
    found = dict(zip(rows["segment"].to_pylist(), rows["voxels"].to_pylist(), strict=True))
    assert found == dict(zip(ids.tolist(), voxels.tolist(), strict=True))
    assert rows.num_rows == len(found)


def test_status_says_what_each_level_merged(whole: Path) -> None:
    """A line per level of the agglomeration: merges of all merges, and edges that went up."""
    store = Store.open(whole)

    def rows(table: str) -> list[int]:
        """The length of a table per level, all blocks together."""
        return [
            sum(store.rows_of(table, level, cell) for cell in store.grid.cells(level))
            for level in range(store.grid.top + 1)
        ]

    merges = rows("merges")
    lines = real.cadseg("status", whole).out.splitlines()
    assert [line for line in lines if "merges" in line] == [
        f"agglomerate-{level}: {made} of {sum(merges)} merges, {left} edges left"
        for level, (made, left) in enumerate(zip(merges, rows("rows"), strict=True))
    ]
    assert len(merges) > 1
