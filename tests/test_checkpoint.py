"""What is finished of a block outlives a kill, where it is what it should be; else it is redone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import real_run as real

from cadseg.storage.files import open_files
from cadseg.workers import checkpoint
from cadseg.workers.checkpoint import Checkpoint

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]

WHOLE = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 10), np.uint8)
PIECES = [
    (slice(None), slice(z, z + 2), slice(y, y + 3), slice(x, x + 4))
    for z in (0, 2)
    for y in (0, 3)
    for x in (0, 4, 8)
]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece is kept, in a file of its own."""
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)


def of_block(
    folder: Path, cell: tuple[int, int, int] = (0, 0, 17), identity: str = "a"
) -> Checkpoint:
    return Checkpoint(open_files(folder), "predict", cell, identity)


def computed(kept: Checkpoint, stop: int | None = None) -> tuple[Array, list[int]]:
    """The array as it is after so many new pieces, and which pieces these were."""
    array, numbers = np.zeros_like(WHOLE), []
    for number in kept.missing(array, PIECES):
        if len(numbers) == stop:
            break
        array[PIECES[number]] = WHOLE[PIECES[number]]
        numbers.append(number)
    return array, numbers


def files(folder: Path) -> list[Path]:
    """All files that are kept."""
    return sorted(path for path in (folder / checkpoint.FOLDER).rglob("*") if path.is_file())


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 3600.0])
def test_finished_pieces_are_computed_once(
    tmp_path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after 2, 5 and 3 pieces, a block goes on; what was never kept is computed again."""
    monkeypatch.setattr(checkpoint, "SECONDS", seconds)
    every: list[int] = []
    for stop in (2, 5, 3, None):
        kept = of_block(tmp_path)
        array, numbers = computed(kept, stop)
        every += numbers
    np.testing.assert_array_equal(array, WHOLE)
    assert kept.seconds >= 0
    if seconds < 1:
        assert every == list(range(len(PIECES)))
    else:
        assert every == [0, 1, 0, 1, 2, 3, 4, 0, 1, 2, *range(len(PIECES))]
        assert files(tmp_path) == []
    kept.clear()
    assert files(tmp_path) == []


def damaged(content: bytes) -> dict[str, tuple[str, bytes]]:
    """By what was done, names and contents of a file that was ``5-6``."""
    contents = {"cut": content[:-1], "begin": content[:8], "empty": b"", "long": content + b"0"}
    contents["zero"] = bytes(len(content))
    for place in (0, len(content) // 2, len(content) - 9, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 4
        contents[f"byte {place}"] = bytes(changed)
    names = ("5-7", "5-5", "6-5", "9-10", "0-99", "99-100", "5", "-1-6", "5-6.json", "5-6/7")
    return {name: (name, content) for name in names} | {
        harm: ("5-6", found) for harm, found in contents.items()
    }


def test_what_does_not_fit_is_computed_again(tmp_path: Path) -> None:
    """A kept file that is damaged, cut or has another name is removed, and changes nothing."""
    computed(of_block(tmp_path), 9)
    paths = files(tmp_path)
    folder, kept = paths[0].parent, {path.name: path.read_bytes() for path in paths}
    assert sorted(kept) == [f"{n}-{n + 1}" for n in range(9)]
    assert folder.name == "0.0.17"
    for harm, (name, content) in damaged(kept.pop("5-6")).items():
        shutil.rmtree(folder)
        for other, found in {**kept, name: content}.items():
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            (folder / other).write_bytes(found)
        array, numbers = computed(of_block(tmp_path))
        assert numbers == [5, 9, 10, 11], harm
        np.testing.assert_array_equal(array, WHOLE)
        assert {path.read_bytes() for path in files(tmp_path)} >= set(kept.values())
        assert content not in {path.read_bytes() for path in files(tmp_path)}, harm


@pytest.mark.parametrize("other", [{"identity": "b"}, {"cell": (0, 0, 16)}])
def test_nothing_is_taken_over_from_elsewhere(tmp_path: Path, other: dict[str, Any]) -> None:
    """Pieces of another block, or of one computed with other inputs, are not used."""
    computed(of_block(tmp_path))
    there = of_block(tmp_path, **other)
    folder = files(tmp_path)[0].parent
    if "cell" in other:
        folder.rename(folder.with_name("0.0.16"))
    array, numbers = computed(there)
    assert numbers == list(range(len(PIECES)))
    np.testing.assert_array_equal(array, WHOLE)


IMPATIENT = """
import sys
from cadseg.pipeline import cli
from cadseg.workers import checkpoint
checkpoint.SECONDS = 0.1
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "kills"), [("true", 3), ("false", 1)])
def test_a_run_that_is_killed_again_and_again_ends(
    keep: str, kills: int, tmp_path: Path, fib25_raw: Array
) -> None:
    """Killed when a bit more of its only block is kept, a run goes on to the same bytes."""
    real.student(tmp_path / "w.safetensors", fib25_raw)
    raw = real.volume(tmp_path / "raw.zarr", fib25_raw[:4, :96, :96])
    sets = ("predict.tile=[32, 32]", f"predict.keep_affinities={keep}", "block_shape=[4, 96, 96]")
    words = ["predict", raw, "--config=ssem", f"--weights={tmp_path / 'w.safetensors'}", "--serial"]
    words += [*real.SMALL, *(f"--set={key}" for key in sets), "--out"]
    assert real.cadseg(*words, tmp_path / "calm.zarr").code == 0

    out, known = tmp_path / "killed.zarr", 0
    command = [sys.executable, "-c", IMPATIENT, *map(str, words), str(out)]
    for _ in range(kills):
        with subprocess.Popen(command, start_new_session=True) as process:
            while len(files(out)) == known:
                assert process.poll() is None
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
        known = len(files(out))
    assert subprocess.run(command, check=False).returncode == 0
    assert real.differing(out, tmp_path / "calm.zarr") == []
    assert not (out / checkpoint.FOLDER).exists()
