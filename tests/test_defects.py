"""Defects of single sections, each on a drawn case."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from no_changes import NOTHING, SOUND
from numpy.testing import assert_array_equal as same

from cadseg.models.training.augment import (
    Transform,
    augment,
    centred_grid,
    margin,
    rotation,
    sources_of,
)
from cadseg.models.training.defects import Defects, Fold, apply, blurred, draw, draw_sections

DEPTH, WIDTH = 9, 40
SEEDS = range(12)
FOLD = Fold(angle=0, offset=0, bow=0, pull=4, width=6, strength=0.8)


def crop(config):
    """Raw that is different at every pixel of a neighbourhood, labels likewise; one unlabelled."""
    size = WIDTH + 2 * margin(config, WIDTH)
    y, x = np.indices((size, size))
    labels = np.broadcast_to(1 + y * 1000 + x, (DEPTH, size, size)).astype(np.int32)
    labels[:, size // 2, size // 2] = -1
    raw = np.broadcast_to(55 + (57 * y + 89 * x) % 200, labels.shape).astype(np.uint8)
    return torch.from_numpy(raw), torch.from_numpy(labels)


def hit(seed, **changes):
    """Raw and labels before and after some defect, and the sections in which either changed."""
    config = NOTHING.model_copy(update={"defects": SOUND.model_copy(update=changes)})
    raw, labels = crop(config)
    m = margin(config, WIDTH)
    middle = slice(m, m + WIDTH)
    rng = np.random.default_rng(seed)
    after = augment(rng, raw, labels, width=WIDTH, config=config)
    before = raw[:, middle, middle].float() / 255, labels[:, middle, middle]
    changed = [
        (a != b).flatten(1).any(1).nonzero().flatten().tolist()
        for a, b in zip(before, after, strict=True)
    ]
    return before, after, changed


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_section_is_even_and_keeps_its_labels(seed):
    """It is black or the mean grey everywhere; other sections and all labels stay."""
    (raw, _), (found, _), (sections, relabelled) = hit(seed, missing=1)
    assert 1 <= len(sections) <= 2
    assert relabelled == []
    for z in sections:
        assert len(found[z].unique()) == 1
        assert float(found[z, 0, 0]) in (0, pytest.approx(float(raw[z].mean()), rel=1e-5))


def test_missing_sections_are_black_as_often_as_grey():
    """Black and grey sections are equally likely."""
    black = [
        draw(np.random.default_rng(i), 9, 40, SOUND.model_copy(update={"missing": 1}))
        for i in range(200)
    ]
    kinds = [is_black for found in black for is_black in found.missing.values()]
    assert 0.4 < np.mean(kinds) < 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dark_section_loses_grey_values(seed):
    """All grey values of it are multiplied by one factor, between 1 - strength and half of that."""
    (raw, _), (found, _), (sections, relabelled) = hit(seed, dark=1, dark_strength=0.8)
    assert 1 <= len(sections) <= 2
    assert relabelled == []
    for z in sections:
        factors = found[z] / raw[z]
        assert float(factors.max() - factors.min()) < 1e-6
        assert 0.2 - 1e-6 <= factors.mean() <= 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_a_blurred_section_loses_contrast_only(seed):
    """Its grey values come closer to each other around the same mean."""
    (raw, _), (found, _), (sections, relabelled) = hit(seed, blurred=1, blur_sigma=3)
    assert 1 <= len(sections) <= 2
    assert relabelled == []
    for z in sections:
        assert found[z].std() < 0.4 * raw[z].std()
        assert float(found[z].mean()) == pytest.approx(float(raw[z].mean()), rel=0.05)


def test_blurring_is_a_gaussian():
    """A bright pixel becomes a Gaussian of that sigma; an even image, borders too, stays."""
    dot = torch.zeros(41, 41)
    dot[20, 20] = 1
    found = blurred(dot, 2.0)
    y, x = np.indices((41, 41)) - 20
    expected = np.exp(-(y**2 + x**2) / 8) / (8 * math.pi)
    assert np.allclose(found, expected, atol=1e-6)
    assert torch.allclose(blurred(torch.ones(41, 41), 5.0), torch.ones(41, 41))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slipped_section_is_moved_as_a_whole(seed):
    """Raw and labels of it are those so many pixels away; other sections stay."""
    _, (raw, labels), (sections, relabelled) = hit(seed, slipped=1, slip=4)
    assert 1 <= len(sections) <= 2
    assert sections == relabelled
    _check_shifts(raw, labels, sections, 4)


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_drift_all_later_sections_are_moved(seed):
    """From one section on all are moved alike, raw and labels; earlier ones stay."""
    _, (raw, labels), (sections, relabelled) = hit(seed, drifted=1, drift=6)
    assert sections == relabelled == list(range(DEPTH - len(sections), DEPTH))
    assert 1 <= len(sections) < DEPTH
    _check_shifts(raw, labels, sections, 6)
    same(labels[sections], labels[-1:].expand(len(sections), WIDTH, WIDTH))


def _check_shifts(raw, labels, sections, max_shift):
    for z in sections:
        y, x = ((labels[z, 0, 0] - 1) // 1000, (labels[z, 0, 0] - 1) % 1000)
        assert max(abs(y - max_shift), abs(x - max_shift)) <= max_shift
        rows, columns = np.indices((WIDTH, WIDTH))
        inside = labels[z].numpy() > 0
        assert inside.mean() > 0.99
        same(labels[z].numpy()[inside], (1 + (rows + int(y)) * 1000 + columns + int(x))[inside])
        same(
            raw[z],
            torch.from_numpy(55 + (57 * (rows + int(y)) + 89 * (columns + int(x))) % 200).float()
            / 255,
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_folds_change_their_section_alone(seed):
    """Only one or two sections are folded, and only these have a band without labels."""
    _, (raw, labels), (sections, relabelled) = hit(seed, folded=1, fold_strength=1)
    assert sections == relabelled
    assert 1 <= len(sections) <= 2
    for z in sections:
        band = labels[z] == 0
        assert 0.02 < band.float().mean() < 0.3
        assert raw[z][band].mean() < 0.7 * raw[z][~band].mean()


def test_a_straight_fold_drawn_by_hand():
    """Both sides are displaced towards the fold, less so with distance; the middle is dark."""
    places = centred_grid(101)
    y, x = FOLD.sources(places)
    same(x, places[1])
    pull = (y - places[0])[:, 0]
    assert torch.allclose(pull, -pull.flip(0))  # alike on both sides
    assert pull[50] == 0
    assert 3.7 < float(pull[51]) < 4
    assert (pull[51:].diff() < 0).all()
    assert (y.diff(dim=0) > 0).all()  # nothing is seen twice
    raw, labels = torch.ones(3, 101, 101), torch.full((3, 101, 101), 7, dtype=torch.int32)
    labels[:, :, 3] = -1
    nothing = draw(np.random.default_rng(0), 3, 101, SOUND)
    nothing.folds[1] = FOLD
    apply(raw, labels, nothing, places)
    same(raw[::2], torch.ones(2, 101, 101))
    assert torch.allclose(raw[1, 50], torch.tensor(0.2))
    assert torch.allclose(raw[1, [47, 53]], torch.tensor(0.6))
    assert (raw[1, [35, 65]] > 0.999).all()
    band = torch.zeros(101, dtype=torch.bool)
    band[48:53] = True
    same(labels[1, :, 4], torch.where(band, 0, 7))
    same(labels[1, :, 3], torch.full((101,), -1))  # what is unlabelled stays so
    same(labels[::2, :, 4:], torch.full((2, 101, 97), 7))


def test_a_folded_section_may_lie_beside_its_place():
    """Every section is interpolated once; a folded one is shifted as well, after the fold."""
    hit = Defects(np.array([[0, 0], [2, -3], [2, -3], [0, 0], [2, -3]]), {2: FOLD}, {}, {}, {})
    places = centred_grid(20)
    quarter = Transform(rotation(math.pi / 2), None)
    found = {z: at for sections, at in sources_of(places, quarter, hit) for z in sections}
    once = [sections for sections, _ in sources_of(places, quarter, hit)]
    assert sorted(once) == [[0, 3], [1, 4], [2]]
    shift = torch.tensor([2.0, -3.0])[:, None, None]
    assert torch.allclose(found[0], quarter.sources(places))
    assert torch.allclose(found[4], quarter.sources(places) + shift)
    assert torch.allclose(found[2], quarter.sources(FOLD.sources(places)) + shift)


def test_a_bowed_fold_leaves_its_line():
    """The line has no offset at its vertex, and the bow as its offset half a crop away."""
    fold = Fold(angle=math.pi / 2, offset=2, bow=5, pull=4, width=6, strength=1)
    distance = fold.distance(centred_grid(101))
    assert float(distance[50, 52]) == pytest.approx(0)
    assert float(distance[0, 52]) == pytest.approx(5, rel=0.03)
    assert float(distance[100, 52]) == pytest.approx(5, rel=0.03)


@pytest.mark.parametrize(("depth", "most"), [(2, 1), (3, 2), (9, 1), (9, 3), (18, 5)])
def test_no_two_neighbours_are_struck(depth, most):
    """As often as asked for, one to `most` sections, never neighbours, and each at times."""
    rng = np.random.default_rng(0)
    found = [draw_sections(rng, depth, 0.7, most) for _ in range(500)]
    assert 0.62 < np.mean([bool(sections) for sections in found]) < 0.78
    assert {len(sections) for sections in found} == set(range(min(most, -(-depth // 2)) + 1))
    assert all(np.diff(sorted(sections)).min(initial=2) > 1 for sections in found)
    assert {z for sections in found for z in sections} == set(range(depth))


def test_pairs_have_defects_too():
    """In a crop of two sections at most one is missing, and the upper one may have drifted."""
    worst = SOUND.model_copy(update={"missing": 1, "drifted": 1})
    found = [draw(np.random.default_rng(seed), 2, 40, worst) for seed in range(50)]
    assert {tuple(one.missing) for one in found} == {(0,), (1,)}
    assert not any(one.shifts[0].any() for one in found)
    assert any(one.shifts[1].any() for one in found)
