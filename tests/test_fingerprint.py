"""Volumes are known by what is in them: by a part of it, or, if asked to, by all of it."""

from __future__ import annotations

import itertools
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import real_run as real
import zarr
from toy_arrays import KINDS, grey, store_array
from zarr.codecs import Crc32cCodec, GzipCodec

from cadseg.storage import fingerprint as prints
from cadseg.storage.volume import open_volume
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Array = np.ndarray[Any, Any]


def fingerprint(path: Path) -> dict[str, Any]:
    return prints.fingerprint(open_volume(str(path)))


def content(path: Path) -> str:
    return prints.content(open_volume(str(path)), lambda _: None)


def changed(path: Path, chunk: tuple[int, int, int]) -> Iterator[zarr.Array[Any]]:
    """An array with another value of one voxel in each of its chunks, one after the other."""
    array = zarr.open_array(path, mode="r+")
    rng = np.random.default_rng(0)
    for cell in np.ndindex(*(-(-n // c) for n, c in zip(array.shape, chunk, strict=True))):
        voxel = tuple(
            int(rng.integers(i * c, min((i + 1) * c, n)))
            for i, c, n in zip(cell, chunk, array.shape, strict=True)
        )
        before = array[voxel]
        array[voxel] = before ^ 1
        yield array
        array[voxel] = before


def change_unseen(path: Path) -> None:
    """Change one voxel of affinities where the fingerprint does not look."""
    array, before = zarr.open_array(path, mode="r+"), fingerprint(path)
    for place in itertools.product(*(range(0, n, 6) for n in array.shape)):
        array[place] ^= 1
        if fingerprint(path) == before:
            return
        array[place] ^= 1
    raise AssertionError("all changes are seen")


@pytest.fixture
def tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few kilobytes are a large volume."""
    for name, value in {"SMALL": 2048, "PIECE": 2048, "SAMPLED": 16_384, "FEWEST": 8}.items():
        monkeypatch.setattr(prints, name, value)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_have_one_fingerprint(tmp_path: Path, kind: str) -> None:
    """A copy elsewhere has the same, as plain data; another shape, type or chunks another one."""
    data = grey(8, 40, 33)
    store_array(tmp_path / "a", data, kind)
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "c")
    first = fingerprint(tmp_path / "a")
    assert fingerprint(tmp_path / "b" / "c") == first
    assert json.loads(json.dumps(first)) == first
    store_array(tmp_path / "less", data[:7], kind)
    store_array(tmp_path / "wide", data.astype(np.uint16), kind)
    zarr.create_array(tmp_path / "chunks", data=data, chunks=(8, 40, 33))
    others = [fingerprint(tmp_path / name) for name in ("less", "wide", "chunks")]
    assert first not in others


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_small_volume_nothing_is_missed(tmp_path: Path, kind: str) -> None:
    """One voxel is changed, in each chunk in turn: the fingerprint is another one each time."""
    store_array(tmp_path / "a", grey(16, 40, 33), kind)
    found = {fingerprint(tmp_path / "a")["samples"]}
    for number, _ in enumerate(changed(tmp_path / "a", (8, 16, 16)), 2):
        found.add(fingerprint(tmp_path / "a")["samples"])
        assert len(found) == number
    assert number == 1 + 2 * 3 * 3


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize("kind", KINDS)
def test_of_a_large_volume_all_is_seen_if_asked_for(tmp_path: Path, kind: str) -> None:
    """Pieces show some changes of one voxel, the hash of the content all."""
    store_array(tmp_path / "a", grey(16, 48, 48), kind)
    first, whole = fingerprint(tmp_path / "a"), content(tmp_path / "a")
    seen = []
    for _ in changed(tmp_path / "a", (8, 16, 16)):
        seen.append(fingerprint(tmp_path / "a")["samples"] != first["samples"])
        assert content(tmp_path / "a") != whole
    assert content(tmp_path / "a") == whole
    assert prints.FEWEST <= sum(seen) < len(seen) == 2 * 3 * 3


@pytest.mark.usefixtures("tiny_pieces")
def test_samples_lie_anywhere_in_a_large_chunk(tmp_path: Path) -> None:
    """Whichever third of a volume of one chunk becomes other voxels, it is seen."""
    data = grey(24, 30, 33)
    zarr.create_array(tmp_path / "a", data=data, chunks=data.shape, compressors=None)
    first = fingerprint(tmp_path / "a")
    for axis, third in itertools.product(range(3), range(3)):
        other = data.copy()
        np.array_split(other, 3, axis)[third][:] += 1
        zarr.create_array(tmp_path / "b", data=other, chunks=data.shape, compressors=None)
        assert fingerprint(tmp_path / "b")["samples"] != first["samples"]
        shutil.rmtree(tmp_path / "b")


@pytest.mark.usefixtures("tiny_pieces")
def test_files_of_another_size_are_seen(tmp_path: Path) -> None:
    """A chunk that compresses otherwise, and one that is missing, show without being read."""
    data = grey(16, 96, 96)
    store_array(tmp_path / "a", data, "v3")
    found = {fingerprint(tmp_path / "a")["files"]}
    data[0, :8, :8] = 0
    store_array(tmp_path / "a", data, "v3", overwrite=True)
    found.add(fingerprint(tmp_path / "a")["files"])
    (tmp_path / "a" / "c" / "1" / "2" / "3").unlink()
    found.add(fingerprint(tmp_path / "a")["files"])
    assert len(found) == 3


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize("codec", [GzipCodec(), Crc32cCodec()])
def test_checksums_in_files_are_seen(tmp_path: Path, codec: Any) -> None:
    """Where files end with a checksum, a change of one voxel in any chunk is seen."""
    store_array(tmp_path / "a", grey(16, 48, 48), "v3", compressors=[codec])
    found = {fingerprint(tmp_path / "a")["files"]}
    for number, _ in enumerate(changed(tmp_path / "a", (8, 16, 16)), 2):
        found.add(fingerprint(tmp_path / "a")["files"])
        assert len(found) == number


def test_voxels_are_counted_while_they_are_read(tmp_path: Path) -> None:
    """All voxels of a volume are read once, along z, y, x."""
    store_array(tmp_path / "a", grey(3, 9, 20, 20), "v3")
    counts: list[int] = []
    prints.content(open_volume(str(tmp_path / "a")), counts.append)
    assert sum(counts) == 9 * 20 * 20


@pytest.mark.usefixtures("tiny_pieces")
def test_what_was_verified_is_compared_from_then_on(tmp_path: Path) -> None:
    """A change that the fingerprint misses goes on unseen, but not with --verify-input."""
    raw = real.volume(tmp_path / "affs.zarr", real.affinities((6, 42, 48)), compressors=None)
    mask = real.volume(tmp_path / "mask.zarr", np.ones((6, 42, 48), np.uint8))
    words = ("segment", raw, "--mask", mask, *real.SMALL, "--serial", "--out", tmp_path / "o.zarr")
    words = (*words, "--until", "fragments")
    assert real.cadseg(*words).code == 0
    origin = Store.open(tmp_path / "o.zarr").origin("fragments")
    assert origin.contents == {}
    assert real.cadseg(*words, "--verify-input").code == 0
    verified = Store.open(tmp_path / "o.zarr").origin("fragments")
    assert verified.identity == origin.identity
    assert sorted(verified.contents) == ["mask", "volume"]

    change_unseen(raw)
    assert real.cadseg(*words).code == 0
    assert Store.open(tmp_path / "o.zarr").origin("fragments") == verified
    said = real.cadseg(*words, "--verify-input")
    assert said.code == 2
    assert f"volume.content (was {verified.contents['volume']}, now" in said.err
    assert "mask.content" not in said.err
    assert real.cadseg(*words, "--verify-input", "--restart").code == 0
    now = Store.open(tmp_path / "o.zarr").origin("fragments")
    assert now.contents["volume"] == content(raw) != verified.contents["volume"]
