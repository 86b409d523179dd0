"""Random changes of training samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cadseg.models.augment import (
    AugmentConfig,
    augment,
    change_grey,
    displacement,
    flip,
    look_up,
    margin,
    rotated_grid,
)

CROP = 48
NOTHING = AugmentConfig(
    flip=0,
    rotate=0,
    elastic=0,
    elastic_sigma=4,
    elastic_std=1,
    grey=0,
    per_section=0,
    contrast=0.3,
    brightness=0.3,
    gamma=1,
)
SHAPES = NOTHING.model_copy(update={"flip": 0.5, "rotate": 1, "elastic": 1})
ALL = SHAPES.model_copy(update={"grey": 1, "per_section": 0.5})


def sample(config, seed=0):
    """Raw and labels in blocks of 10 x 10 pixels, wide enough for `config`."""
    size = CROP + 2 * margin(config, CROP)
    rng = np.random.default_rng(seed)
    blocks = rng.integers(1, 200, (2, size // 10 + 1, size // 10 + 1))
    labels = np.kron(blocks, np.ones((10, 10), np.int64))[:, :size, :size]
    return labels.astype(np.uint8), labels


def changed(config, seed):
    """The sample after augmentation."""
    rng = np.random.default_rng(seed)
    return augment(rng, *sample(config), crop=CROP, config=config)


def test_nothing_asked_nothing_changed():
    """With all shares 0 the result is the middle of the sample, unchanged."""
    raw, labels = sample(NOTHING)
    raw_2YX, labels_2YX = changed(NOTHING, 1)
    assert np.array_equal(raw_2YX, raw[:, 1:-1, 1:-1])
    assert np.array_equal(labels_2YX, labels[:, 1:-1, 1:-1])


@pytest.mark.parametrize("seed", range(5))
def test_same_seed_same_sample(seed):
    """The generator decides everything; another seed gives another sample."""
    for one, two, other in zip(
        changed(ALL, seed), changed(ALL, seed), changed(ALL, seed + 1), strict=True
    ):
        assert np.array_equal(one, two)
        assert not np.array_equal(one, other)
        assert one.shape == (2, CROP, CROP)


@pytest.mark.parametrize("seed", range(20))
def test_raw_and_labels_move_together(seed):
    """Inside of objects, raw still shows the object that the label names."""
    raw, labels = changed(SHAPES, seed)
    windows = np.lib.stride_tricks.sliding_window_view(labels, (3, 3), axis=(1, 2))
    inside = (windows == windows[..., 1:2, 1:2]).all((3, 4))
    assert inside.mean() > 0.3
    assert (raw[:, 1:-1, 1:-1] == labels[:, 1:-1, 1:-1])[inside].mean() > 0.99


@pytest.mark.parametrize("seed", range(20))
def test_no_black_corners(seed):
    """Whatever the rotation and bending, nothing comes from outside of the sample."""
    rng = np.random.default_rng(seed)
    size = CROP + 2 * margin(SHAPES, CROP)
    grid = rotated_grid(CROP, (size - 1) / 2, math.pi / 4)
    grid += displacement(rng, CROP, 4, 1)
    assert grid.min() >= 0
    assert grid.max() <= size - 1


def test_a_quarter_turn_is_a_quarter_turn():
    """Rotating by 90 degrees gives the rotated arrays, exactly."""
    raw, labels = sample(NOTHING)
    raw, labels = raw[:, 1:-1, 1:-1], labels[:, 1:-1, 1:-1]
    turned_raw, turned_labels = look_up(
        raw, labels, rotated_grid(CROP, (CROP - 1) / 2, math.pi / 2)
    )
    assert np.array_equal(turned_raw, np.rot90(raw, -1, (1, 2)))
    assert np.array_equal(turned_labels, np.rot90(labels, -1, (1, 2)))


def test_flips_reach_all_orientations():
    """There are 16 ways to flip and transpose a pair, all of them are drawn, none is new."""
    raw, labels = sample(NOTHING)
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(300):
        flipped_raw, flipped_labels = flip(rng, raw, labels, 0.5)
        assert np.array_equal(flipped_raw, flipped_labels)  # they were equal, so they moved alike
        found.add(flipped_labels.tobytes())
    expected = {
        np.rot90(pair, turns, (1, 2)).tobytes()
        for sections in (labels, labels[::-1])
        for pair in (sections, sections[:, ::-1])
        for turns in range(4)
    }
    assert found == expected


def test_displacement_is_smooth_and_as_large_as_asked():
    """The field has the asked-for standard deviation and changes little from pixel to pixel."""
    field = displacement(np.random.default_rng(0), 128, 8, 1.5)
    assert field.shape == (2, 128, 128)
    assert field.std() == pytest.approx(1.5, rel=0.01)
    assert np.abs(np.diff(field, axis=2)).max() < 1.5 * 4 / 8


def test_grey_values_change_by_one_curve():
    """A change of grey values keeps their order: one curve for the pair, or one per section."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16), (2, 16, 16))
    together = ALL.model_copy(update={"per_section": 0})
    apart = ALL.model_copy(update={"per_section": 1})
    for seed in range(50):
        lower, upper = change_grey(np.random.default_rng(seed), ramp, together)
        assert np.array_equal(lower, upper)
        assert (np.diff(lower.ravel().astype(int)) >= 0).all()
        lower, upper = change_grey(np.random.default_rng(seed), ramp, apart)
        assert not np.array_equal(lower, upper)


def test_grey_values_do_not_change_without_an_amount():
    """With no contrast, brightness or gamma to change, grey values stay."""
    still = ALL.model_copy(update={"contrast": 0, "brightness": 0, "gamma": 0})
    raw, _ = sample(NOTHING)
    assert np.array_equal(change_grey(np.random.default_rng(0), raw, still), raw)
