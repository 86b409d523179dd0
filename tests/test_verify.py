"""Reading everything once: each file that is not what its block has written is named."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import real_run as real

from cadseg.pipeline import run

if TYPE_CHECKING:
    from pathlib import Path

FILES = (
    "basins/c/0/0/1",
    "fragments/c/1/1/0",
    "segmentation/1/c/0/0/0",
    "tables/climb/0.0.0/0.1.0.columns",
    "graph/edges/level-0/0.0.0/0.0.0.parquet",
    "graph/merges/level-1/0.0.0/0.0.0.parquet",
)


def test_a_sound_run_and_its_copy(whole: Path, tmp_path: Path) -> None:
    """A sound run is said to be sound, wherever it was copied to; status says when that was."""
    copy = shutil.copytree(whole, tmp_path / "copy")
    assert "verified" not in real.cadseg("status", copy).out
    said = real.cadseg("verify", copy)
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("GB, none damaged\n")
    assert f"{said.out.split()[0]} files" in real.cadseg("status", copy).out
    shutil.rmtree(copy / "records/segment")
    assert "none damaged; 8 blocks are not done" in real.cadseg("verify", copy).out


@pytest.mark.parametrize("how", ["flip", "cut", "grow", "unlink"])
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_damage_is_named(name: str, how: str, done: Path) -> None:
    """A file with another byte, another length, or none at all is seen, and withdrawn."""
    path, content = done / name, bytearray((done / name).read_bytes())
    if how == "flip":
        content[len(content) // 3] ^= 1
    path.write_bytes(content[:-1] if how == "cut" else content + b"x" * (how == "grow"))
    if how == "unlink":
        path.unlink()
    said = real.cadseg("verify", done)
    assert said.code == 1
    assert said.out.startswith(f"{done}/{name} of ")
    assert "1 damaged" in said.out
    (report,) = real.cadseg("verify", "--repair", done).out.splitlines()[:1]
    assert report == said.out.splitlines()[0]
    assert "none damaged; 1 blocks are not done" in real.cadseg("verify", done).out


def test_what_is_damaged_is_repaired(affs: Path, done: Path, whole: Path) -> None:
    """After --repair the same command computes what was damaged again, and nothing else."""
    before = real.times(done)
    for name in FILES:
        (done / name).write_bytes(b"damaged")
    _, lost = run.verify(done, repair=True)
    assert len(lost) == len(FILES)
    assert real.segment(affs, done).warnings == ()
    assert real.differing(done, whole) == []
    changed = [name for name, time in real.times(done).items() if time != before[name]]
    assert len(changed) == len(FILES)
