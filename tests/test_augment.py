"""Random changes of training crops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from no_changes import NOTHING, SOUND
from numpy.testing import assert_array_equal as same

from cadseg.models.training import augment as module
from cadseg.models.training import defects
from cadseg.models.training.augment import (
    Transform,
    augment,
    centred_grid,
    change_grey,
    displacement_field,
    draw_transform,
    flip,
    margin,
    rotation,
    sample,
    sources_of,
)

DEPTH, WIDTH = 5, 48
SHAPES = NOTHING.model_copy(update={"flip": 0.5, "rotate": 1, "rescale": 1, "elastic": 1})
MOVING = SOUND.model_copy(update={"slipped": 1, "drifted": 1, "folded": 1})
WORST = MOVING.model_copy(update={"missing": 1, "dark": 1, "blurred": 1})
MOVED = SHAPES.model_copy(update={"defects": MOVING})
ALL = SHAPES.model_copy(update={"grey": 1, "per_section": 0.5, "defects": WORST})


def crop(config, seed=0, first=0):
    """Raw and labels in blocks of 10 x 10 pixels, wide enough for `config`."""
    size = WIDTH + 2 * margin(config, WIDTH)
    rng = np.random.default_rng(seed)
    blocks = rng.integers(1, 200, (DEPTH, size // 10 + 1, size // 10 + 1), np.int32)
    labels = np.kron(blocks, np.ones((10, 10), np.int32))[:, :size, :size]
    return torch.from_numpy(labels.astype(np.uint8)), torch.from_numpy(labels + np.int32(first))


def changed(config, seed, first=0):
    """The crop after augmentation."""
    rng = np.random.default_rng(seed)
    return augment(rng, *crop(config, 0, first), width=WIDTH, config=config)


def test_nothing_asked_nothing_changed():
    """With all probabilities 0 there is no margin, and the result is the crop itself."""
    raw, labels = crop(NOTHING)
    raw_DYX, labels_DYX = changed(NOTHING, 1)
    assert raw_DYX.shape == labels_DYX.shape == (DEPTH, WIDTH, WIDTH)
    assert (raw_DYX.dtype, labels_DYX.dtype) == (torch.float32, torch.int32)
    same(raw_DYX, raw.float() / 255)
    same(labels_DYX, labels)


def test_where_no_transform_is_drawn_the_middle_is_left():
    """The margin is that of all possible transforms; where none is drawn, the middle is left."""
    rare = MOVED.model_copy(update={"flip": 0, "rotate": 1e-9, "rescale": 1e-9, "elastic": 1e-9})
    unlikely = {"slipped": 1e-9, "drifted": 1e-9, "folded": 1e-9}
    rare = rare.model_copy(update={"defects": MOVING.model_copy(update=unlikely)})
    raw, labels = crop(rare)
    m = margin(rare, WIDTH)
    assert m > 20
    raw_DYX, labels_DYX = changed(rare, 1)
    same(raw_DYX, raw[:, m:-m, m:-m].float() / 255)
    same(labels_DYX, labels[:, m:-m, m:-m])


@pytest.mark.parametrize("seed", range(5))
def test_same_seed_same_crop(seed):
    """The generator decides everything, bit for bit; another seed gives another crop."""
    pairs = zip(changed(ALL, seed), changed(ALL, seed), changed(ALL, seed + 1), strict=True)
    for one, two, other in pairs:
        assert torch.equal(one, two)
        assert not torch.equal(one, other)
        assert one.shape == (DEPTH, WIDTH, WIDTH)
    assert 0 <= changed(ALL, seed)[0].min() <= changed(ALL, seed)[0].max() <= 1


@pytest.mark.parametrize("seed", range(10))
def test_raw_and_labels_move_together(seed):
    """Inside of objects, raw still shows the object that the label names, whatever moves."""
    quiet = MOVED.model_copy(
        update={"defects": MOVING.model_copy(update={"fold_strength": 0.0, "fold_width": 0.0})}
    )
    raw, labels = changed(quiet, seed)
    windows = labels.unfold(1, 3, 1).unfold(2, 3, 1)
    inside = (windows == windows[..., 1:2, 1:2]).all(-1).all(-1)
    assert inside.float().mean() > 0.3
    found = (raw * 255).round()[:, 1:-1, 1:-1] == labels[:, 1:-1, 1:-1]
    assert found[inside].float().mean() > 0.98


@pytest.mark.parametrize("first", [0, 2**31 - 300])
def test_no_label_is_made_up(first):
    """Labels, however large, are a subset of those of the crop; only folds add background."""
    ids = crop(MOVED, 0, first)[1].unique()
    for seed in range(5):
        found = changed(MOVED, seed, first)[1].unique()
        assert set(found.tolist()) <= {0, *ids.tolist()}
        assert 0 in found
        assert len(found) > 20
    assert ids.dtype == torch.int32
    assert int(ids[-1]) - int(ids[0]) < 200


@pytest.mark.parametrize("config", [SHAPES, MOVED, NOTHING.model_copy(update={"defects": MOVING})])
def test_no_black_corners(config):
    """Whatever moves, no pixel of the result comes from outside of the crop; the margin is used."""
    half = (WIDTH - 1) / 2 + margin(config, WIDTH)
    places = centred_grid(WIDTH)
    max_shift = 0.0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        plane = draw_transform(rng, WIDTH, config)
        hit = defects.draw(rng, DEPTH, WIDTH, config.defects)
        found = max(float(at.abs().max()) for _, at in sources_of(places, plane, hit))
        max_shift = max(max_shift, found)
    assert 0.7 * half < max_shift <= half


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("width", [7, 48])
def test_quarter_turns_are_exact(turns, width):
    """Rotating by multiples of 90 degrees gives the rotated arrays, to the last bit."""
    image = torch.randint(0, 2**31 - 1, (3, width, width), dtype=torch.int32)
    at = Transform(rotation(turns * math.pi / 2), None).sources(centred_grid(width))
    for mode in ("nearest", "bilinear"):
        same(sample(image, at, mode).round(), np.rot90(image, -turns, (1, 2)))


def test_flips_reach_all_orientations():
    """There are 16 ways to flip and transpose a crop, all of them are drawn, none is new."""
    raw, labels = crop(NOTHING)
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(300):
        flipped_raw, flipped_labels = flip(rng, raw, labels, 0.5)
        same(flipped_raw, flipped_labels)  # they were equal, so they moved alike
        found.add(flipped_labels.numpy().tobytes())
    expected = {
        np.rot90(one, turns, (1, 2)).tobytes()
        for sections in (labels.numpy(), labels.numpy()[::-1])
        for one in (sections, sections[:, ::-1])
        for turns in range(4)
    }
    assert found == expected


def test_stretching_makes_things_larger():
    """With a factor f along an axis, what was n pixels apart is f * n pixels apart."""
    rescaled = NOTHING.model_copy(update={"rescale": 1})
    factors = []
    for seed in range(300):
        matrix = draw_transform(np.random.default_rng(seed), WIDTH, rescaled).matrix
        same(matrix, np.diag(np.diag(matrix)))
        factors.append(1 / np.diag(matrix))
    assert 0.8 <= np.min(factors) < 0.82
    assert 1.18 < np.max(factors) <= 1.2
    assert abs(np.corrcoef(np.transpose(factors))[0, 1]) < 0.2


def test_displacement_is_smooth_and_as_large_as_asked():
    """The field has the asked-for standard deviation and changes little from pixel to pixel."""
    fields = torch.stack(
        [displacement_field(np.random.default_rng(i), 128, 8, 1.5) for i in range(20)]
    )
    assert fields.shape == (20, 2, 128, 128)
    assert float(fields.std()) == pytest.approx(1.5, rel=0.05)
    assert float(fields.abs().max()) <= module.CLIP * 1.5
    spread = fields.std(dim=(0, 1))
    assert 0.6 * 1.5 < float(spread.min()) < float(spread.max()) < 1.5 * 1.5
    assert float(fields.diff(dim=-1).std()) == pytest.approx(1.5 / 8 / math.sqrt(2), rel=0.1)


def test_grey_values_change_by_one_curve():
    """A change of grey values keeps their order: one curve for the crop, or one per section."""
    ramp = torch.linspace(0, 1, 256).reshape(16, 16).expand(3, 16, 16)
    together = ALL.model_copy(update={"per_section": 0})
    apart = ALL.model_copy(update={"per_section": 1})
    for seed in range(50):
        found = change_grey(np.random.default_rng(seed), ramp, together)
        same(found, found[:1].expand(3, 16, 16))
        assert (found[0].flatten().diff() >= 0).all()
        assert 0 <= found.min() < found.max() <= 1
        sections = change_grey(np.random.default_rng(seed), ramp, apart)
        assert not any(torch.equal(sections[i], sections[i - 1]) for i in range(3))
        assert (sections.flatten(1).diff() >= 0).all()
    same(ramp[0].flatten(), torch.linspace(0, 1, 256))  # what came in stays as it was


def test_grey_values_do_not_change_without_an_amount():
    """With no contrast, brightness or gamma to change, grey values stay."""
    still = ALL.model_copy(update={"contrast": 0, "brightness": 0, "gamma": 0})
    raw = crop(NOTHING)[0].float() / 255
    same(change_grey(np.random.default_rng(0), raw, still), raw)
