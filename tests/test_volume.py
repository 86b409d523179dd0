"""Volumes: what is accepted, what is refused and how, and that a box holds its voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fsspec
import numpy as np
import pytest
import zarr
from toy_arrays import KINDS, grey, store_array, whole
from zarr.storage import FsspecStore

from cadseg.blocks import Roi
from cadseg.errors import VolumeError
from cadseg.storage import volume
from cadseg.storage.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "<u8", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_reading_a_box_gives_its_voxels(tmp_path: Path, kind: str, dtype: str) -> None:
    """A box read from an array of any format is that box of the data, in native byte order."""
    data = grey(20, 40, 33, dtype=dtype)
    store_array(tmp_path / "a", data, kind)
    opened = volume.open_volume(str(tmp_path / "a"))
    box = Roi((3, 0, 30), (20, 17, 33))
    read = opened.read(box)
    assert read.tolist() == data[box.slices()].tolist()
    assert read.dtype.isnative
    assert opened.dtype == read.dtype
    assert opened.shape == data.shape


def test_channels_come_whole_and_single_ones_are_left_out(tmp_path: Path) -> None:
    """A box of an array with channels has all of them; leading axes of length 1 vanish."""
    data = grey(3, 9, 20, 20)
    store_array(tmp_path / "c", data, "v3")
    store_array(tmp_path / "t", data[None, :1], "v3")
    box = Roi((1, 2, 3), (9, 20, 20))
    channels, single = (volume.open_volume(str(tmp_path / name)) for name in "ct")
    assert (channels.read(box) == data[(..., *box.slices())]).all()
    assert single.shape == (9, 20, 20)
    assert (single.read(box) == data[0][box.slices()]).all()


def test_leaving_the_volume_is_never_filled_with_zeros(tmp_path: Path) -> None:
    """A box that reaches outside of the volume is refused."""
    store_array(tmp_path / "a", grey(8, 16, 16), "v3")
    with pytest.raises(AssertionError, match="leaves"):
        volume.open_volume(str(tmp_path / "a")).read(Roi((0, 0, 0), (9, 16, 16)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_chunk_holds_the_fill_value(tmp_path: Path, kind: str) -> None:
    """Where no chunk was written, every voxel is the fill value."""
    data = np.zeros((16, 32, 32), np.uint8)
    data[:8] = 9
    store_array(tmp_path / "a", data, kind, fill_value=0)
    assert (volume.open_volume(str(tmp_path / "a")).read(whole(data)) == data).all()


@pytest.mark.parametrize("harm", ["truncated", "garbage", "emptied"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_chunk_is_named(tmp_path: Path, kind: str, harm: str) -> None:
    """Reading a damaged file says which chunk of which array it is; boxes beside it are read."""
    data = grey(16, 64, 64)
    store_array(tmp_path / "a", data, kind)
    key = "0.1.2" if kind == "v2" else ("c/0/0/1" if kind == "sharded" else "c/0/1/2")
    _damage(tmp_path / "a" / key, harm)
    opened = volume.open_volume(str(tmp_path / "a"))
    with pytest.raises(VolumeError) as caught:
        opened.read(whole(data))
    assert f"volume {tmp_path / 'a'}: chunk (0, " in str(caught.value)
    assert key in str(caught.value)
    beside = Roi((0, 32, 0), (8, 64, 32))
    assert (opened.read(beside) == data[beside.slices()]).all()


def _damage(path: Path, harm: str) -> None:
    content = path.read_bytes()
    if harm == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "garbage":
        path.write_bytes(np.random.default_rng(1).bytes(len(content)))
    else:
        path.write_bytes(b"")


def test_an_address_in_memory_is_opened() -> None:
    """Any address that fsspec knows is a volume."""
    data = grey(8, 16, 16)
    store_array(FsspecStore.from_url("memory://store/a"), data, "v3")
    opened = volume.open_volume("memory://store/a")
    assert (opened.read(whole(data)) == data).all()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket on an S3 server of its own."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in [
        ("ACCESS_KEY_ID", "x"),
        ("SECRET_ACCESS_KEY", "x"),
        ("REGION", "us-east-1"),
    ]:
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3 = fsspec.get_filesystem_class("s3")
    s3.clear_instance_cache()  # of tests that had no keys
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir("volumes")
    yield "s3://volumes"
    server.stop()
    s3.clear_instance_cache()


def test_a_bucket_is_read_like_a_folder(bucket: str, tmp_path: Path) -> None:
    """A volume on an S3 server has the voxels and the fingerprint that it has in a folder."""
    data = grey(16, 40, 33)
    store_array(tmp_path / "a", data, "sharded")
    fsspec.filesystem("s3").put(str(tmp_path / "a"), f"{bucket}/a", recursive=True)
    there, here = volume.open_volume(f"{bucket}/a"), volume.open_volume(str(tmp_path / "a"))
    assert (there.read(whole(data)) == data).all()
    assert fingerprint(there) == fingerprint(here)
    with pytest.raises(VolumeError, match="there is no volume"):
        volume.open_volume(f"{bucket}/b")


def test_what_is_no_volume_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Nothing there, a file, several arrays, or too few axes: the error says which."""
    (tmp_path / "file").write_text("x")
    zarr.create_group(tmp_path / "two")
    zarr.create_group(tmp_path / "none")
    for name in ("raw", "labels"):
        store_array(tmp_path / "two" / name, grey(8, 16, 16), "v3")
    (tmp_path / "two" / "notes").mkdir()
    zarr.create_array(tmp_path / "flat", data=grey(1, 16, 16)[0])
    zarr.create_array(tmp_path / "words", data=np.full((2, 2, 2), 1j))
    for name, sentence in [
        ("nothing", "there is no volume"),
        ("file", "there is a file, not a folder"),
        ("two", "the arrays labels, raw; accepted: name one, as in"),
        ("none", "is a group with no array"),
        ("flat", r"has the shape \(16, 16\)"),
        ("words", "has the type complex128"),
    ]:
        with pytest.raises(VolumeError, match=sentence):
            volume.open_volume(str(tmp_path / name))
    with pytest.raises(VolumeError, match="cannot be opened"):
        volume.open_volume("nonsense://a/b")
