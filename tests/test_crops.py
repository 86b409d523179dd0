"""Crops drawn from labelled volumes."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
import zarr

from cadseg.errors import ConfigError, VolumeError
from cadseg.models.training import crops
from cadseg.models.training.crops import Crops, DataConfig

SHAPE = (9, 20, 30)
IDS = np.arange(600, dtype=np.uint64) * (1 << 54)  # below 2**64, and no float tells neighbours


@pytest.fixture
def volume(tmp_path):
    """A volume whose voxels say where they are: raw by section, labels by place."""
    z, y, x = np.indices(SHAPE)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = (z * 10 + y % 2).astype(np.uint8)
        file["labels"] = np.broadcast_to(IDS.reshape(20, 30) + np.uint64(3), SHAPE)
        file["mask"] = (x >= 15).astype(np.uint8)
        file["nowhere"] = np.zeros(SHAPE, np.bool_)
        file["one"] = np.where(x < 4, -1, (z < 4) * 5)
        file["none"] = -z
        file["sides"] = 1 + (x >= 15)
        file["falling"] = np.where(y > 0, 900 - 100 * z + y % 7, 0)
        file["short"] = np.zeros((2, 20, 30), np.uint64)
        file["float"] = np.zeros(SHAPE, np.float32)
        file["flat"] = np.zeros(SHAPE[1:], np.uint8)
    return path


def config(path, sections=(2, 7), weight=1.0, mask=None, **names):
    """The volume at `path`, as a configuration."""
    names = {"raw": "raw", "labels": "labels", **names}
    return DataConfig(
        **{key: f"{path}:{name}" for key, name in names.items()},
        mask=mask and f"{path}:{mask}",
        sections=sections,
        weight=weight,
    )


def draws(found, count=60, shape=(3, 8, 8), seed=0, margin=0):
    """A number of crops."""
    rng = np.random.default_rng(seed)
    return [found.draw(rng, shape, margin) for _ in range(count)]


def test_a_crop_is_a_box_of_the_volume(volume):
    """Crops are what the file holds at their origin, all of the chosen sections, and no others."""
    begins = set()
    with h5py.File(volume) as file:
        raw, labels = file["raw"][:], file["labels"][:]
    numbers = {}
    for crop in draws(Crops([config(volume)]), count=800):
        z, y, x = crop.origin.begin
        box = np.s_[z : z + 3, y : y + 8, x : x + 8]
        assert (crop.raw.dtype, crop.labels.dtype) == (torch.uint8, torch.int32)
        assert np.array_equal(crop.raw, raw[box])
        for i, number in zip(labels[box].ravel(), crop.labels.flatten().tolist(), strict=True):
            assert numbers.setdefault(i, number) == number
        begins.add((z, y, x))
    assert sorted(numbers.values()) == list(range(1, 601))
    for axis, places in enumerate([range(2, 5), range(13), range(23)]):
        assert {begin[axis] for begin in begins} == set(places)
    assert str(crop.origin) == f"{volume}:raw at z {z}, y {y}, x {x}"


def test_what_is_drawn_is_a_copy(volume):
    """Writing into a crop leaves the volume as it was."""
    found = Crops([config(volume)])
    for shape in [(3, 8, 8), (5, 20, 30)]:
        before = draws(found, 1, shape)[0].raw.clone()
        draws(found, 1, shape)[0].raw.zero_()
        assert torch.equal(draws(found, 1, shape)[0].raw, before)


def test_all_sections_and_zarr(volume, tmp_path):
    """Sections may be all of them, and arrays may be Zarr: the crops are the same."""
    with h5py.File(volume) as file:
        for name in ("raw", "labels"):
            zarr.create_array(tmp_path / name, data=file[name][:], chunks=(4, 8, 8))
    there = DataConfig(
        raw=str(tmp_path / "raw"),
        labels=str(tmp_path / "labels"),
        mask=None,
        sections=None,
        weight=1,
    )
    pairs = zip(draws(Crops([there])), draws(Crops([config(volume, (0, 9))])), strict=True)
    for one, two in pairs:
        assert torch.equal(one.raw, two.raw)
        assert torch.equal(one.labels, two.labels)
        assert one.origin.begin == two.origin.begin


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "i4", "u4", "i8", "u8"])
def test_ids_of_any_type(tmp_path, dtype):
    """The largest ids of every type are told apart; 0 and below is background."""
    info = np.iinfo(dtype)
    labels = np.array([0, info.min, info.max, info.max - 1], dtype).reshape(2, 1, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"], file["labels"] = labels.astype("u1"), labels
    (crop,) = draws(Crops([config(tmp_path / "a.h5", None)]), 1, (2, 1, 2))
    assert crop.labels.flatten().tolist() == [0, 0, 2, 1]


@pytest.mark.parametrize("sections", [1, 2, 9])
def test_an_object_has_one_number(volume, monkeypatch, sections):
    """However many sections are read at once, and in whatever order ids come up."""
    monkeypatch.setattr(crops, "SLAB", sections)
    with h5py.File(volume) as file:
        ids = file["falling"][2:7]
    (crop,) = draws(Crops([config(volume, labels="falling")]), 1, ids.shape)
    pairs = np.unique(np.stack([ids.ravel(), crop.labels.numpy().ravel()]), axis=1)
    assert pairs[0].tolist() == np.unique(ids).tolist()
    assert pairs[1, 0] == 0
    assert sorted(pairs[1]) == list(range(36))


def test_a_mask_makes_voxels_unlabelled(volume):
    """Where the mask is 0 labels are -1, and a crop has something else somewhere."""
    for crop in draws(Crops([config(volume, mask="mask")]), 300):
        x = crop.origin.begin[2] + np.arange(8)
        assert ((crop.labels == -1) == torch.from_numpy(x < 15)).all()
        assert x[-1] >= 15


def test_same_seed_same_crops(volume):
    """The generator decides everything."""
    found = Crops([config(volume)])
    for one, two in zip(draws(found, seed=4), draws(Crops([config(volume)]), seed=4), strict=True):
        assert torch.equal(one.raw, two.raw)
        assert torch.equal(one.labels, two.labels)
    assert [c.origin for c in draws(found)] != [c.origin for c in draws(found, seed=1)]


def test_weights_decide_how_often(volume):
    """A volume with three times the weight is drawn from three times as often."""
    found = Crops([config(volume, (0, 2)), config(volume, (5, 7), weight=3.0)])
    first = [crop.origin.begin[0] == 0 for crop in draws(found, 2000, (2, 8, 8))]
    assert 0.22 < np.mean(first) < 0.28


def test_small_volumes_are_mirrored(volume):
    """A crop of any size continues the volume by mirroring, raw and labels alike."""
    with h5py.File(volume) as file:
        raw = file["raw"][2:7]
    for crop in draws(Crops([config(volume)]), 20, (23, 26, 99)):
        (z, y, x), (d, h, w) = crop.origin.begin, (5, 20, 30)
        widths = [(2 - z, 21 - (2 - z) - 3), (-y, 26 - h + y), (-x, 99 - w + x)]
        labels = np.broadcast_to(np.arange(1, 601).reshape(1, 20, 30), raw.shape)
        assert np.array_equal(crop.raw, np.pad(raw, widths, mode="reflect"))
        assert np.array_equal(crop.labels, np.pad(labels, widths, mode="reflect"))
        assert d == raw.shape[0]


def test_a_margin_may_lie_outside(volume):
    """With a margin the middles of crops reach every face; what lies beyond it is mirrored."""
    with h5py.File(volume) as file:
        around = np.pad(file["raw"][2:7], [(0, 0), (3, 3), (3, 3)], mode="reflect")
    middles = set()
    for crop in draws(Crops([config(volume)]), 800, (3, 14, 14), margin=3):
        z, y, x = crop.origin.begin
        assert np.array_equal(crop.raw, around[z - 2 :][:3, y + 3 :, x + 3 :][:, :14, :14])
        middles.add((y + 3, x + 3))
    assert {y for y, _ in middles} == set(range(13))
    assert {x for _, x in middles} == set(range(23))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"raw": "grey"}, "raw .*a.h5: has no dataset grey; there are .*raw"),
        ({"labels": "flat"}, r"labels .*a.h5:flat: has the shape \(20, 30\).* axes z, y, x"),
        ({"labels": "short"}, r"short: has the shape \(2, 20, 30\), but raw .*\(9, 20, 30\)"),
        ({"mask": "short"}, r"mask .*short: has the shape \(2, 20, 30\)"),
        ({"labels": "float"}, "float: is float32; accepted are integers"),
        ({"mask": "float"}, "mask .*: is float32; accepted are integers or booleans"),
        ({"raw": "labels"}, "raw .*: is uint64; accepted are uint8"),
        ({"raw": "nowhere"}, "raw .*: is bool; accepted are uint8"),
        ({"sections": (4, 5)}, "sections 4 to 5 .* there are 9; accepted are at least two"),
        ({"sections": (4, 10)}, "sections 4 to 10 "),
        ({"labels": "none"}, r"none: holds no object .*in sections \(2, 7\); accepted are two"),
        ({"labels": "one"}, r"one: holds a single object in sections \(2, 7\); accepted are two"),
        ({"labels": "one", "sections": (4, 9)}, "one: holds no object"),
        ({"labels": "one", "mask": "mask"}, "a single object .* where the mask is not 0"),
        ({"labels": "sides", "mask": "mask"}, "a single object"),
        ({"mask": "nowhere"}, r"nowhere: is 0 everywhere in sections \(2, 7\)"),
    ],
)
def test_refused(volume, changes, sentence):
    """A volume that nothing can be learned from is refused with a sentence that names it."""
    with pytest.raises(VolumeError, match=sentence) as caught:
        Crops([config(volume, **changes)])
    assert str(volume) in str(caught.value)


def test_what_is_no_volume_is_refused(volume, tmp_path):
    """A file that is missing, of another kind or damaged, and no volume at all, are refused."""
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("none.h5", "text.h5"):
        with pytest.raises(VolumeError, match=rf"raw .*{name}: cannot be opened as HDF5"):
            Crops([config(tmp_path / name)])
    whole = config(volume)
    with pytest.raises(VolumeError, match=r"a\.h5: names no dataset; .* FILE:DATASET; there are"):
        Crops([whole.model_copy(update={"raw": str(volume)})])
    with pytest.raises(VolumeError, match="none: there is no volume; accepted is a Zarr array"):
        Crops([whole.model_copy(update={"mask": str(tmp_path / "none")})])
    with pytest.raises(ConfigError, match="data: lists no volume"):
        Crops([])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("raw", SHAPE, "u1", chunks=SHAPE, compression="gzip")
        file["raw"].id.write_direct_chunk((0, 0, 0), b"damage")
    with pytest.raises(VolumeError, match=r"b\.h5:raw: cannot read 2:7,0:20,0:30"):
        Crops([whole.model_copy(update={"raw": f"{tmp_path / 'b.h5'}:raw"})])
