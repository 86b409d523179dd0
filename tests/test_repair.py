"""A run meets broken input, lost records and half-made files, and ends as if it had not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import real_run as real

from cadseg.errors import OutputError, StageError
from cadseg.pipeline import run
from cadseg.pipeline.execution import driver
from cadseg.storage.local_files import LocalFiles
from cadseg.workers import records

if TYPE_CHECKING:
    from collections.abc import Callable

KILLED = 32 * "9"
"""In the name of a temporary file."""


def test_a_stopped_restart_loses_no_truth(
    affs: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart that is stopped while it deletes leaves no record of data that has gone."""
    remove, left = LocalFiles.remove, [0]

    def stopping(files: LocalFiles, name: str) -> None:
        if not name.startswith("lock"):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        remove(files, name)

    for deletions in (1, 6, 12, 16):
        out = Path(shutil.copytree(whole, tmp_path / f"{deletions}.zarr"))
        left[0] = deletions
        monkeypatch.setattr(LocalFiles, "remove", stopping)
        with pytest.raises(KeyboardInterrupt):
            real.segment(affs, out, "fragments.sigma=0.4", restart=True)
        monkeypatch.undo()
        real.segment(affs, out)
        assert real.differing(out, whole) == []


def test_lost_records_are_computed_again(affs: Path, done: Path, whole: Path) -> None:
    """Blocks whose records are lost, broken or of another run are computed again, and only they."""
    before, files = real.times(done), LocalFiles(done)
    (done / "records/edges/0.0.0/0.0.0.json").unlink()
    (done / "records/segment/0.0.0/1.1.1.json").write_text('{"identity": "ab')
    (done / "graph/edges/level-0/0.0.0/0.0.0.parquet").unlink()
    foreign = records.read(files, "agglomerate-0", (0, 1, 0))
    assert foreign is not None
    records.write(files, "agglomerate-0", (0, 1, 0), replace(foreign, identity="of another run"))
    real.segment(affs, done)
    assert real.differing(done, whole) == []
    changed = [name for name, time in real.times(done).items() if time != before[name]]
    assert sorted(changed) == [
        "records/agglomerate-0/0.0.0/0.1.0.json",
        "records/edges/0.0.0/0.0.0.json",
        "records/segment/0.0.0/1.1.1.json",
    ]


def test_rubbish_of_killed_writers_does_no_harm(affs: Path, whole: Path, tmp_path: Path) -> None:
    """Half-written temporary files, even in a folder that holds nothing else, are passed over."""
    out = tmp_path / "o.zarr"
    out.mkdir()
    (out / f".zarr.json.{KILLED}.part").write_text('{"zarr_f')
    real.segment(affs, out, until="fragments")
    for name in (
        f"fragments/c/0/0/.0.{KILLED}.part",
        f"records/edges/0.0.0/.0.0.0.json.{KILLED}.part",
    ):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("half")
    real.segment(affs, out)
    assert real.differing(out, whole) == []


def truncate(path: Path) -> None:
    """Cut a chunk in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("form", "chunk"), [(2, "0/0/0/0"), (3, "c/0/0/0/0")])
def test_a_broken_chunk(form: int, chunk: str, whole: Path, tmp_path: Path) -> None:
    """The blocks that need it fail, by name; all others finish; repaired, the run goes on."""
    affs = real.volume(
        tmp_path / "affs.zarr",
        real.affinities(),
        chunks=(3, 3, 42, 48),
        zarr_format=form,
        **({"chunk_key_encoding": {"name": "v2", "separator": "/"}} if form == 2 else {}),
    )
    good = (affs / chunk).read_bytes()
    truncate(affs / chunk)
    out = tmp_path / "o.zarr"
    with pytest.raises(StageError) as failure:
        segment_unsampled(affs, good, chunk, out)
    text = str(failure.value)
    assert text.startswith("climb: 4 of 8 blocks failed, first block 0.0.0: VolumeError: ")
    assert [part for part in (chunk, "logs/", "same command") if part not in text] == []
    assert sorted(path.name for path in (out / "records/climb/0.0.0").iterdir()) == [
        f"1.{y}.{x}.json" for y in range(2) for x in range(2)
    ]
    before = real.times(out)
    (affs / chunk).write_bytes(good)
    real.segment(affs, out)
    assert data(out) == data(whole)
    assert {name: real.times(out)[name] for name in before} == before


def segment_unsampled(affs: Path, good: bytes, chunk: str, out: Path) -> None:
    """A run of a volume that breaks only after it was looked at."""
    (affs / chunk).write_bytes(good)
    prepared = run.prepare(str(affs), source="affinities", out=out, overrides=real.SETS)
    truncate(affs / chunk)
    run.execute(prepared, real.HERE)


def data(out: Path) -> dict[str, object]:
    """What a run has made, without records, which name the volume's chunks."""
    return {name: made for name, made in real.contents(out).items() if name[:7] != "records"}


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_floats_that_are_no_affinities(bad: float, tmp_path: Path) -> None:
    """A float outside 0..1 fails its blocks; the message names the voxel."""
    floats = real.affinities().astype(np.float32) / 255
    floats[1, 5, 3, 4] = bad
    affs = real.volume(tmp_path / "affs.zarr", floats, chunks=(3, 1, 8, 8))
    with pytest.raises(StageError, match=r"\(1, 5, 3, 4\); affinities must lie in 0\.\.1"):
        real.segment(affs, tmp_path / "o.zarr")


def test_floats_are_bytes(whole: Path, tmp_path: Path) -> None:
    """Affinities as floats in 0..1 give what the same affinities as bytes give."""
    floats = real.affinities().astype(np.float32) / 255
    out = real.segment(real.volume(tmp_path / "affs.zarr", floats), tmp_path / "o.zarr").out
    assert data(out) == data(whole)


def flipped(path: Path) -> None:
    """Change a bit at the end of a file, which every reader looks at."""
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    path.write_bytes(content)


def swapped(path: Path) -> None:
    """Replace a file by another block's."""
    near, far = path.parent.iterdir(), path.parents[2].rglob("*")
    others = [other for other in (*sorted(near), *sorted(far)) if other.is_file()]
    shutil.copy(next(other for other in others if other != path), path)


@pytest.mark.parametrize("damage", [Path.unlink, truncate, flipped, swapped])
@pytest.mark.parametrize(
    ("name", "until"),
    [
        ("basins/c/0/0/1", "fragments"),
        ("tables/climb/0.0.0/0.0.1.columns", "fragments"),
        ("graph/edges/level-0/0.0.0/0.0.1.parquet", "edges"),
        ("records/edges/0.0.0/0.0.1.json", "edges"),
        ("graph/merges/level-1/0.0.0/0.0.0.parquet", "agglomerate"),
        ("tables/agglomerate-0/0.0.0/0.0.1.columns", "agglomerate"),
    ],
)
def test_damage_between_stages_is_mended(
    name: str, until: str, damage: Callable[[Path], None], affs: Path, whole: Path, tmp_path: Path
) -> None:
    """A file that is missing, cut, changed or another block's is made again, and named."""
    out = tmp_path / "o.zarr"
    real.segment(affs, out, until=until)
    damage(out / name)
    report = real.segment(affs, out)
    assert real.differing(out, whole) == []
    if name.startswith("records"):
        assert report.warnings == ()
    else:
        (warning,) = report.warnings
        assert warning.startswith(f"{out}/{name}: it")


@pytest.mark.parametrize("damage", [truncate, flipped])
def test_a_damaged_manifest(
    damage: Callable[[Path], None], affs: Path, done: Path, whole: Path
) -> None:
    """The same command writes it again; one with other numbers, and relabel, are refused."""
    before = real.times(done)
    damage(done / "run.json")
    for refused in (
        lambda: real.segment(affs, done, "fragments.sigma=0.4"),
        lambda: run.relabel(done, 0.7, real.HERE),
    ):
        with pytest.raises(OutputError, match=r"run\.json cannot be read"):
            refused()
    real.segment(affs, done)
    assert (done / "run.json").read_bytes() == (whole / "run.json").read_bytes()
    assert (real.differing(done, whole), real.times(done)) == ([], before)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_what_a_reader_finds_is_mended(
    workers: int, affs: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage that is seen only when a block is read makes the same command go back to it."""
    monkeypatch.setattr(driver, "VERIFYING", -1.0)  # nothing is read before blocks are computed
    out = tmp_path / "o.zarr"
    real.segment(affs, out, until="fragments")
    damaged = ("basins/c/0/0/1", "tables/climb/0.0.0/1.0.1.columns")
    for name in damaged:
        flipped(out / name)
    how = replace(real.HERE, serial=False, workers=workers) if workers else real.HERE
    report = run.segment(str(affs), how, out=out, overrides=real.SETS)
    assert real.differing(out, whole) == []
    assert sorted(warning.partition(": ")[0] for warning in report.warnings) == [
        f"{out}/{name}" for name in damaged
    ]
    assert not list((out / "lost").rglob("*.json"))
