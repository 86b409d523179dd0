"""Section pairs drawn from labelled volumes."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from cadseg.errors import VolumeError
from cadseg.models.pairs import Pairs, PairsConfig

SHAPE = (9, 20, 30)


@pytest.fixture
def volume(tmp_path):
    """A volume whose voxels say where they are: raw by section, labels by place."""
    z, y, x = np.indices(SHAPE)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = (z * 10).astype(np.uint8)
        file["labels"] = ((y * 100 + x) * (1 << 40)).astype(np.uint64)
        file["short"] = np.zeros((2, 20, 30), np.uint64)
        file["float"] = np.zeros(SHAPE, np.float32)
    return path


def config(path, sections=(2, 7), weight=1.0, **names):
    """The volume at `path`, as a configuration."""
    names = {"raw": "raw", "labels": "labels", **names}
    return PairsConfig(path=str(path), sections=sections, weight=weight, **names)


def draws(pairs, count=60, size=8, seed=0):
    """A number of samples."""
    rng = np.random.default_rng(seed)
    return [pairs.draw(rng, size) for _ in range(count)]


def test_sections_are_neighbours_and_allowed(volume):
    """A sample is two neighbouring sections, and only of those to learn from."""
    lower = set()
    for raw, labels in draws(Pairs([config(volume)])):
        assert raw.shape == labels.shape == (2, 8, 8)
        assert raw.dtype == np.uint8
        assert labels.dtype == np.int64
        assert np.unique(raw[1] - raw[0]).tolist() == [10]
        lower.add(int(raw[0, 0, 0]) // 10)
    assert lower == {2, 3, 4, 5}


def test_raw_and_labels_are_of_one_place(volume):
    """Labels come from the same place in both sections, and all places are reached."""
    corners = set()
    for _, labels in draws(Pairs([config(volume)]), count=400):
        assert np.array_equal(labels[0], labels[1])
        assert np.unique(np.diff(labels[0], axis=1)).tolist() == [1]  # x, renumbered in order
        assert np.unique(np.diff(labels[0], axis=0)).tolist() == [30]
        corners.add(divmod(int(labels[0, 0, 0]), 30))
    assert {y for y, _ in corners} == set(range(13))
    assert {x for _, x in corners} == set(range(23))


def test_background_stays_background(volume):
    """Renumbering keeps 0 at 0 and different labels different."""
    _, labels = draws(Pairs([config(volume)]), count=1, size=30)[0]
    assert (labels == 0).sum() == 2 * 1  # label 0 at the first pixel only, mirrored nowhere else
    assert len(np.unique(labels)) == 20 * 30


def test_same_seed_same_samples(volume):
    """The generator decides everything."""
    pairs = Pairs([config(volume)])
    for one, two in zip(draws(pairs, seed=4), draws(Pairs([config(volume)]), seed=4), strict=True):
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])
    assert any(
        (a[1] != b[1]).any() for a, b in zip(draws(pairs), draws(pairs, seed=1), strict=True)
    )


def test_weights_decide_how_often(volume):
    """A volume with three times the weight is drawn from three times as often."""
    pairs = Pairs([config(volume, (0, 2)), config(volume, (5, 7), weight=3.0)])
    first = [raw[0, 0, 0] == 0 for raw, _ in draws(pairs, count=2000)]
    assert 0.22 < np.mean(first) < 0.28


def test_narrow_volumes_are_mirrored(volume):
    """A sample wider than the volume continues it by mirroring, raw and labels alike."""
    _, labels = draws(Pairs([config(volume)]), count=1, size=36)[0]
    inside = labels[0, 8:28, 3:33]
    assert np.array_equal(inside.ravel(), np.arange(600))
    assert np.array_equal(labels[0], np.pad(inside, ((8, 8), (3, 3)), mode="reflect"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"raw": "grey"}, "no dataset grey with axes z, y, x; it holds"),
        ({"labels": "short"}, r"short has \(2, 20, 30\)"),
        ({"labels": "float"}, "labels are float32"),
        ({"sections": (4, 5)}, "sections 4 to 5 asked for, there are 9"),
        ({"sections": (4, 10)}, "sections 4 to 10 asked for, there are 9"),
    ],
)
def test_refused(volume, changes, sentence):
    """A volume that does not fit is refused with a sentence that names it."""
    with pytest.raises(VolumeError, match=sentence) as caught:
        Pairs([config(volume, **changes)])
    assert str(volume) in str(caught.value)


def test_what_is_no_volume_is_refused(tmp_path):
    """A file that is missing, or of another kind, is refused."""
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("none.h5", "text.h5"):
        with pytest.raises(VolumeError, match=rf"{name}.*HDF5"):
            Pairs([config(tmp_path / name)])
