"""A disk that fills up, turns read-only, goes or hangs ends a run in one sentence; mended, it ends.

The disks are real, made and mounted here, which root may.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import disks
import pytest
import real_run as real

from cadseg.pipeline.execution import guard

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

LIMIT = 300.0  # seconds, where others keep the machine busy
UNDER_WAY = 8  # records of a run that has begun


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a disk is mounted."""
    return tmp_path / "disk"


def command(affs: Path, place: Path) -> tuple[object, ...]:
    """A run of some dozen blocks, on the disk."""
    sets = [f"--set={word}" for word in real.SETS]
    return ("segment", affs, "--out", place / "o.zarr", *sets)


def under_way(process: subprocess.Popen[str], out: Path) -> None:
    """Wait until blocks are done."""
    while real.records(out) < UNDER_WAY:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def said(process: subprocess.Popen[str], out: Path) -> str:
    """The one sentence with which a run soon fails."""
    _, text = process.communicate(timeout=LIMIT)
    assert process.returncode == 1, text
    lines = [line for line in text.splitlines() if "blocks done" not in line]
    assert len(lines) == 1, text
    assert str(out) in lines[0]
    return lines[0]


def goes_on(words: tuple[object, ...], place: Path, whole: Path) -> None:
    """The same command ends as a run that nobody disturbed, and leaves nothing else."""
    ended = real.cadseg(*words, "--serial")
    assert ended.code == 0, ended.err
    assert real.differing(place / "o.zarr", whole) == []
    assert list(place.rglob("*.part")) == []
    assert list(place.rglob("lock*")) == []


BYTES = ({"size": "400k"}, {"size": "64m"}, "No space left on device")
FILES = ({"nr_inodes": 150}, {"nr_inodes": 9999}, "no inodes are left")


@pytest.mark.parametrize(
    ("way", "limits", "room", "text"),
    [
        ("--serial", *BYTES),
        pytest.param("--workers=2", *BYTES, marks=pytest.mark.slow),
        pytest.param("--workers=2", *FILES, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk(
    affs: Path,
    whole: Path,
    place: Path,
    way: str,
    limits: dict[str, object],
    room: dict[str, object],
    text: str,
) -> None:
    """A run says that the disk can take no more bytes, or files; it goes on when it can."""
    with disks.tmpfs(place, **limits):
        words = command(affs, place)
        assert text in said(real.start(*words, way), place / "o.zarr")
        disks.enlarge(place, **room)
        goes_on(words, place, whole)


@pytest.mark.slow
def test_a_disk_that_turns_read_only(affs: Path, whole: Path, place: Path, tmp_path: Path) -> None:
    """A run says that the disk cannot be written; it goes on when it can."""
    image, words = tmp_path / "image", command(affs, place)
    with disks.ext4(image, place):
        process = real.start(*words, "--workers=2")
        under_way(process, place / "o.zarr")
        disks.fail(place)
        assert "Read-only file system" in said(process, place / "o.zarr")
    disks.repair(image)
    with disks.ext4(image, place):
        goes_on(words, place, whole)


def test_a_disk_that_goes(affs: Path, whole: Path, place: Path, tmp_path: Path) -> None:
    """A run says that its folder has gone, and writes nothing to what then has its path."""
    with disks.tmpfs(tmp_path / "behind", size="64m"):
        words = command(affs, place)
        with disks.bound(tmp_path / "behind", place):
            process = real.start(*words, "--workers=2")
            under_way(process, place / "o.zarr")
        assert "was its disk unmounted?" in said(process, place / "o.zarr")
        assert list(place.iterdir()) == []
        with disks.bound(tmp_path / "behind", place):
            goes_on(words, place, whole)


@pytest.mark.slow
def test_a_disk_that_hangs(
    affs: Path, whole: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run says that its disk does not answer; it goes on when it does."""
    monkeypatch.setattr(guard, "SILENT", 3.0)
    words, ended = command(affs, place), threading.Event()
    with disks.ext4(tmp_path / "image", place):
        with ThreadPoolExecutor(1) as pool:
            freezing = pool.submit(freeze, place, ended)
            failed = real.cadseg(*words, "--workers=2")
            ended.set()
            freezing.result()
        assert failed.code == 1
        assert "the disk has not answered for" in failed.err
        goes_on(words, place, whole)


def freeze(place: Path, ended: threading.Event) -> None:
    """Let the disk hang from some moment of a run to its end."""
    while real.records(place / "o.zarr") < UNDER_WAY and not ended.is_set():
        time.sleep(0.02)
    with disks.frozen(place):
        ended.wait(LIMIT)


def test_a_run_waits_for_no_disk_for_long() -> None:
    """What is wrong with a disk is said within a minute."""
    assert guard.PAUSE + guard.SILENT < 45  # what is left is for the run to end
