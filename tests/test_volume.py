"""Volumes: what is accepted, what is refused and how, and that writing then reading is exact."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import zarr
from funlib.persistence import open_ds
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import FsspecStore

from cadseg import config
from cadseg.blocks import Grid, Roi, zyx
from cadseg.errors import ConfigError, OutputError, VolumeError
from cadseg.storage import group, inputs, ome, outputs, shards, volume
from cadseg.storage.files import LocalFiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Array = np.ndarray[Any, Any]

KINDS = ["v2", "v3", "sharded"]


def grey(*shape: int, dtype: str = "uint8") -> Array:
    """Noise that no two boxes share."""
    return np.random.default_rng(0).integers(1, 255, shape).astype(dtype)


def whole(data: Array) -> Roi:
    return Roi((0, 0, 0), zyx(data.shape[-3:]))


def store_array(path: object, data: Array, kind: str, **options: Any) -> zarr.Array[Any]:
    """`data` as a Zarr array of 8 x 16 x 16 chunks."""
    lead = (1,) * (data.ndim - 3)
    layout: dict[str, Any] = {"v2": {"zarr_format": 2}, "v3": {}, "sharded": {}}[kind]
    if kind == "sharded":
        layout["shards"] = (*lead, 16, 32, 32)
    return zarr.create_array(store=path, data=data, chunks=(*lead, 8, 16, 16), **layout, **options)


# reading ---------------------------------------------------------------------------------------


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


# where volumes lie -------------------------------------------------------------------------------


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
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir("volumes")
    yield "s3://volumes"
    server.stop()
    fsspec.filesystem("s3").clear_instance_cache()


def test_a_bucket_is_read_like_a_folder(bucket: str, tmp_path: Path) -> None:
    """A volume on an S3 server has the voxels and the fingerprint that it has in a folder."""
    data = grey(16, 40, 33)
    store_array(tmp_path / "a", data, "sharded")
    fsspec.filesystem("s3").put(str(tmp_path / "a"), f"{bucket}/a", recursive=True)
    there, here = volume.open_volume(f"{bucket}/a"), volume.open_volume(str(tmp_path / "a"))
    assert (there.read(whole(data)) == data).all()
    assert there.fingerprint() == here.fingerprint()
    with pytest.raises(VolumeError, match="there is no volume"):
        volume.open_volume(f"{bucket}/b")


def test_the_fingerprint_is_of_the_voxels(tmp_path: Path) -> None:
    """Copies have one fingerprint; other voxels in any chunk, or another shape, give others."""
    data = grey(8, 40, 33)
    last = data.copy()
    last[-1, -1, -1] += 1
    for name, voxels in {"a": data, "all": data + 1, "last": last, "less": data[:7]}.items():
        store_array(tmp_path / name, voxels, "v3")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    prints = [
        volume.open_volume(str(tmp_path / name)).fingerprint()
        for name in ("a", "copy", "all", "last", "less")
    ]
    assert prints[0] == prints[1]
    assert prints[0] not in prints[2:]
    assert json.loads(json.dumps(prints[0])) == prints[0]


# metadata ----------------------------------------------------------------------------------------


def _image(path: Path, version: str, unit: str, scale: list[float]) -> None:
    """An OME-Zarr image of one level named "full"."""
    kind = "v2" if version == "0.4" else "v3"
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": unit} for a in "zyx"]
    steps = [{"type": "scale", "scale": [1.0, *scale]}]
    image = {"axes": axes, "datasets": [{"path": "full", "coordinateTransformations": steps}]}
    attributes: dict[str, Any] = {"multiscales": [image]}
    zarr.create_group(
        path,
        zarr_format=2 if kind == "v2" else 3,
        attributes=attributes if kind == "v2" else {"ome": attributes},
    )
    store_array(path / "full", grey(1, 8, 16, 16), kind)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("nanometer", [33.3, 4, 4]),
        ("micrometer", [0.0333, 0.004, 0.004]),
        ("angstrom", [333, 40, 40]),
    ],
)
def test_an_ome_image_is_its_full_resolution(
    tmp_path: Path, version: str, unit: str, scale: list[float]
) -> None:
    """An OME-Zarr image opens as its first level, its voxel size in nm whatever the unit."""
    _image(tmp_path / "image", version, unit, scale)
    for url in (tmp_path / "image", tmp_path / "image" / "full"):
        opened = volume.open_volume(str(url))
        assert opened.shape == (8, 16, 16)
        assert opened.voxel_size_nm == pytest.approx((33.3, 4, 4))


def test_ome_steps_follow_each_other() -> None:
    """A level's scale and translation come first; the image's own then apply to the result."""
    level = [
        {"type": "scale", "scale": [1, 2, 2]},
        {"type": "translation", "translation": [0, 3, 3]},
    ]
    image = {
        "axes": [{"name": axis, "unit": "nanometer"} for axis in "zyx"],
        "coordinateTransformations": [{"type": "scale", "scale": [40, 4, 4]}],
    }
    found = ome.of_level(image, {"coordinateTransformations": level})
    assert found == ome.Geometry((40, 8, 8), (0, 12, 12))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"voxel_size": [40, 4, 4]}, (40, 4, 4)),
        ({"resolution": [40, 4, 4], "offset": [400, 0, 8]}, (40, 4, 4)),
        ({"voxel_size": [1, 40, 4, 4], "units": ["nm"]}, (40, 4, 4)),
        ({"voxel_size": [33300, 3800, 3800], "units": ["pm", "pm", "pm"]}, (33.3, 3.8, 3.8)),
        ({"voxel_size": [1, 1, 1], "units": ["", "", ""]}, None),
        ({}, None),
    ],
)
def test_voxel_sizes_of_arrays(tmp_path: Path, attributes: dict[str, Any], expected: Any) -> None:
    """An array's attributes give its voxel size in nm; 1, 1, 1 without a unit is unknown."""
    store_array(tmp_path / "a", grey(8, 16, 16), "v3", attributes=attributes)
    assert volume.open_volume(str(tmp_path / "a")).voxel_size_nm == expected


@pytest.mark.parametrize("size", [(40.0, 4.0, 4.0), (33.3, 4.5, 4.0), (25 / 3, 4.0, 4.0)])
def test_funlib_persistence_opens_outputs(tmp_path: Path, size: tuple[float, ...]) -> None:
    """funlib.persistence sees an output's voxel size and offset, fractions of a nm included."""
    offset = zyx(np.round([1000 * s for s in size]))
    made = outputs.create_output(
        LocalFiles(tmp_path / "out"),
        "affinities",
        lead=(3,),
        shape=(8, 16, 16),
        dtype="uint8",
        shard=(8, 16, 16),
        voxel_size_nm=(size[0], size[1], size[2]),
        offset_nm=offset,
    )
    opened = open_ds(str(tmp_path / "out" / "affinities"))
    unit = {"nm": 1, "pm": 1e-3, "fm": 1e-6}[opened.units[0]]
    assert [v * unit for v in opened.voxel_size] == pytest.approx(size, rel=1e-6)
    assert [v * unit for v in opened.offset] == pytest.approx(offset, rel=1e-6)
    assert opened.shape == (3, 8, 16, 16)
    assert made.volume.voxel_size_nm == pytest.approx(size, rel=1e-6)


def test_the_segmentation_is_an_ome_image(tmp_path: Path) -> None:
    """The levels of a segmentation open as one image, each at its own voxel size."""
    files = LocalFiles(tmp_path)
    for level, shape in enumerate([(8, 32, 32), (8, 16, 16)]):
        outputs.create_output(
            files, f"segmentation/{level}", shape=shape, dtype="uint64", shard=(8, 16, 16)
        )
    group.write_multiscales(files, ["0", "1"], [(1, 1, 1), (1, 2, 2)], (33.3, 4.0, 4.0))
    image = volume.open_volume(str(tmp_path / "segmentation"))
    assert (image.shape, image.voxel_size_nm) == ((8, 32, 32), (33.3, 4, 4))
    coarse = volume.open_volume(str(tmp_path / "segmentation" / "1"))
    assert coarse.voxel_size_nm == (33.3, 8, 8)
    assert coarse.offset_nm == (0, 2, 2)


# what is refused ---------------------------------------------------------------------------------


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


def _config(**grey_range: Any) -> config.Config:
    value = grey_range.get("grey_range")
    return config.load("ssem", [] if value is None else [f"volume.grey_range={list(value)}"])


def _opened(path: Path, data: Array) -> volume.Volume:
    store_array(path, data, "v3")
    return volume.open_volume(str(path))


def test_raw_is_bytes_or_has_a_grey_range(tmp_path: Path) -> None:
    """uint8 is taken, uint16 with a range for the whole volume, anything else is refused."""
    one, two = (
        _opened(tmp_path / "1", grey(8, 16, 16)),
        _opened(tmp_path / "2", grey(8, 16, 16, dtype="u2")),
    )
    inputs.check_raw(one, _config())
    inputs.check_raw(two, _config(grey_range=(100, 4000)))
    with pytest.raises(ConfigError, match="accepted are two grey values"):
        inputs.check_raw(two, _config())
    with pytest.raises(ConfigError, match="the lower one first"):
        inputs.check_raw(two, _config(grey_range=(4000, 100)))
    with pytest.raises(ConfigError, match="accepted is null"):
        inputs.check_raw(one, _config(grey_range=(100, 4000)))
    with pytest.raises(VolumeError, match="float32; raw must be uint8 or uint16, so convert"):
        inputs.check_raw(_opened(tmp_path / "f", grey(8, 16, 16, dtype="f4")), _config())
    with pytest.raises(VolumeError, match="raw must be z, y, x"):
        inputs.check_raw(_opened(tmp_path / "c", grey(3, 8, 16, 16)), _config())


def test_affinities_have_three_channels(tmp_path: Path) -> None:
    """Affinities have one channel per axis, as bytes or floats; a mask has the volume's shape."""
    inputs.check_affinities(_opened(tmp_path / "3", grey(3, 8, 16, 16)))
    for channels in (2, 12):
        with pytest.raises(VolumeError, match="one channel per axis"):
            inputs.check_affinities(_opened(tmp_path / f"{channels}", grey(channels, 8, 16, 16)))
    with pytest.raises(VolumeError, match="must be uint8"):
        inputs.check_affinities(_opened(tmp_path / "i", grey(3, 8, 16, 16, dtype="i4")))
    raw = _opened(tmp_path / "raw", grey(8, 16, 16))
    inputs.check_mask(raw, raw)
    with pytest.raises(VolumeError, match="a mask must have the same"):
        inputs.check_mask(_opened(tmp_path / "m", grey(8, 16, 17)), raw)


def test_float_affinities_become_bytes(tmp_path: Path) -> None:
    """Affinities in 0..1 become 0..255; one that is no number or outside is named by its place."""
    data = np.linspace(0, 1, 3 * 8 * 16 * 16, dtype="f4")
    data[:255] = (np.arange(255) + 0.5) / 255  # as near to a half as floats come
    data = data.reshape(3, 8, 16, 16)
    opened = _opened(tmp_path / "a", data)
    assert (inputs.read_affinities(opened, whole(data)) == np.rint(data.astype("f8") * 255)).all()
    for value in (np.nan, 1.5, -0.1):
        bad = data.copy()
        bad[1, 2, 3, 4] = value
        path = tmp_path / str(value)
        with pytest.raises(VolumeError, match=r"at \(1, 2, 3, 4\); affinities must lie in 0..1"):
            inputs.read_affinities(_opened(path, bad), Roi((1, 0, 0), (8, 16, 16)))


def test_grey_values_do_not_depend_on_the_block() -> None:
    """uint16 becomes uint8 by the global range alone: rounded half to even, clipped, in order."""
    values = np.arange(65536, dtype=np.uint16)
    grey8 = inputs.as_uint8(values, (1000, 1510))
    assert grey8[[0, 1000, 1001, 1002, 1003, 1510, 65535]].tolist() == [0, 0, 0, 1, 2, 255, 255]
    assert (np.diff(grey8.astype(int)) >= 0).all()
    assert (inputs.as_uint8(values[300:40000], (1000, 1510)) == grey8[300:40000]).all()
    assert inputs.as_uint8(grey8, None) is grey8


# writing -----------------------------------------------------------------------------------------

lengths = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=30, deadline=None)
@given(shape=lengths, block=lengths, channels=st.sampled_from([(), (3,)]), seed=st.integers(0, 9))
def test_there_and_back(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    block: tuple[int, int, int],
    channels: tuple[int, ...],
    seed: int,
) -> None:
    """What blocks write, in any order, is what is read, by us and by zarr; one file per block."""
    out = tmp_path_factory.mktemp("out")
    grid = Grid(shape, Roi((0, 0, 0), shape), block)
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 3, (*channels, *shape)).astype("uint64") * 2**40
    files = LocalFiles(out)
    made = outputs.create_output(
        files, "a", lead=channels, shape=shape, dtype="uint64", shard=block
    )
    for index in rng.permutation(grid.count(0)):
        cover = grid.block(0, list(grid.cells(0))[index]).cover
        outputs.open_output(files, "a").write(cover, data[(..., *cover.slices())])
    assert (made.read(whole(data)) == data).all()
    assert (zarr.open_array(out / "a")[:] == data).all()
    files = [p for p in (out / "a" / "c").rglob("*") if p.is_file()] if data.any() else []
    assert len(files) <= grid.count(0)


def test_a_write_replaces_one_file_and_reads_none(tmp_path: Path) -> None:
    """A shard is written over a broken one, also at the border; all 0 removes the file."""
    made = outputs.create_output(
        LocalFiles(tmp_path / "o"), "a", shape=(9, 20, 20), dtype="u1", shard=(8, 16, 16)
    )
    covers = [
        Roi(zyx(b), zyx(np.minimum(np.add(b, (8, 16, 16)), (9, 20, 20))))
        for b in itertools.product((0, 8), (0, 16), (0, 16))
    ]
    data = grey(9, 20, 20)
    for cover in covers:
        made.write(cover, data[cover.slices()])
    files = sorted(p for p in (tmp_path / "o" / "a" / "c").rglob("*") if p.is_file())
    assert len(files) == len(covers)
    for path in files:
        path.write_bytes(b"broken")
    before = {path: path.stat().st_ino for path in files}
    for cover in covers:
        made.write(cover, data[cover.slices()])
    assert (made.read(whole(data)) == data).all()
    assert all(path.stat().st_ino != inode for path, inode in before.items())
    made.write(covers[-1], np.zeros(covers[-1].shape, np.uint8))
    assert not files[-1].exists()
    assert (made.read(covers[-1]) == 0).all()


def made_in(folder: Path, shape: tuple[int, int, int]) -> outputs.OutputArray:
    """An array of bytes in shards of 8 x 16 x 16 voxels."""
    return outputs.create_output(
        LocalFiles(folder), "a", shape=shape, dtype="uint8", shard=(8, 16, 16)
    )


def test_only_whole_blocks_are_written(tmp_path: Path) -> None:
    """A box that cuts a shard, or data of another type or shape, is refused."""
    made = made_in(tmp_path, (8, 32, 32))
    box = Roi((0, 0, 0), (8, 16, 16))
    with pytest.raises(AssertionError, match="cuts shards"):
        made.write(Roi((0, 0, 0), (8, 16, 8)), grey(8, 16, 8))
    with pytest.raises(AssertionError, match="is not uint8"):
        made.write(box, grey(8, 16, 16, dtype="u8"))
    with pytest.raises(AssertionError, match=r"\(8, 16, 8\)"):
        made.write(box, grey(8, 16, 8))


def test_a_flipped_bit_of_an_output_is_seen(tmp_path: Path) -> None:
    """A single damaged byte in an output's file makes reading fail, and names the file."""
    made = made_in(tmp_path, (8, 16, 16))
    made.write(Roi((0, 0, 0), (8, 16, 16)), grey(8, 16, 16))
    path = tmp_path / "a" / "c" / "0" / "0" / "0"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(VolumeError, match="in file c/0/0/0 cannot be decoded"):
        made.read(Roi((0, 0, 0), (8, 16, 16)))


def test_making_an_output_again_keeps_it(tmp_path: Path) -> None:
    """An array that is there is kept; one of another layout, or a foreign folder, is refused."""
    box = Roi((0, 0, 0), (8, 16, 16))

    def make(out: str, dtype: str = "uint8") -> outputs.OutputArray:
        return outputs.create_output(
            LocalFiles(tmp_path / out), "s/0", shape=box.shape, dtype=dtype, shard=box.shape
        )

    make("o").write(box, grey(8, 16, 16))
    assert (make("o").read(box) == grey(8, 16, 16)).all()
    with pytest.raises(OutputError, match="another shape, type or block shape"):
        make("o", "uint64")
    LocalFiles(tmp_path / "o").remove("s/0")
    assert (make("o", "uint64").read(box) == 0).all()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match="was not written by cadseg"):
        make("foreign")
    assert not group.is_ours(LocalFiles(tmp_path / "foreign"))
    assert group.is_ours(LocalFiles(tmp_path / "o"))
    assert os.listdir(tmp_path / "foreign") == ["thesis.tex"]


@given(shard=st.tuples(*[st.integers(1, 2048)] * 3))
def test_inner_chunks_divide_the_shard(shard: tuple[int, int, int]) -> None:
    """Inner chunks fill a shard without rest, and are thin only where a shard has no divisor."""
    for length, inner, target in zip(shard, shards.inner_shape(shard), shards.TARGET, strict=True):
        assert length % inner == 0
        assert inner == length or 8 <= inner <= target
