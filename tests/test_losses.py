"""Targets and losses, against the plainest way to compute them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cadseg.models.losses import balance, slice_loss, targets, without_borders, wmse


def some_labels(seed, shape=(2, 2, 7, 6), ids=3):
    """Random labels, 0 among them."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, ids + 1, shape))


def literal_targets(labels):
    """Targets, pixel by pixel."""
    batch, _, height, width = labels.shape
    out = np.zeros((batch, 3, height, width), np.float32)
    for b, y, x in np.ndindex(batch, height, width):
        here = labels[b, 1, y, x]
        neighbours = [labels[b, 0, y, x], None, None]
        neighbours[1] = labels[b, 1, y - 1, x] if y else -1
        neighbours[2] = labels[b, 1, y, x - 1] if x else -1
        out[b, :, y, x] = [here == n and here > 0 for n in neighbours]
    return out


def literal_weights(target):
    """Balancing weights, sample by sample."""
    out = np.ones(target.shape, np.float32)
    for b, sample in enumerate(target):
        ones = int(sample.sum())
        if 0 < ones < sample.size:
            f = min(max(ones / sample.size, 0.05), 0.99)
            on_ones, on_zeros = (1, f / (1 - f)) if f > 0.5 else ((1 - f) / f, 1)
            out[b] = np.where(sample > 0, on_ones, on_zeros)
    return out


@pytest.mark.parametrize("seed", range(3))
def test_targets(seed):
    """A target is 1 where both pixels carry the same positive label."""
    labels = some_labels(seed)
    assert np.array_equal(targets(labels).numpy(), literal_targets(labels.numpy()))


def test_background_is_joined_to_nothing():
    """Two background pixels do not belong together."""
    assert targets(torch.zeros(1, 2, 4, 4, dtype=torch.int64)).sum() == 0


@pytest.mark.parametrize("ids", [1, 2, 5])
def test_borders_are_taken_out(ids):
    """A pixel whose 3 x 3 window holds two positive labels becomes background; others stay."""
    labels = some_labels(ids, (1, 2, 9, 8), ids) * some_labels(9, (1, 2, 9, 8), 1)
    result = without_borders(labels)
    assert result.dtype == labels.dtype
    padded = np.pad(labels.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")
    for s, y, x in np.ndindex(2, 9, 8):
        found = set(padded[0, s, y : y + 3, x : x + 3].ravel()) - {0}
        expected = labels[0, s, y, x] if len(found) <= 1 else 0
        assert result[0, s, y, x] == expected


def test_borders_are_taken_out_once():
    """Between two touching objects a border of two pixels appears, one on each side."""
    labels = torch.ones(1, 2, 4, 8, dtype=torch.int64)
    labels[..., 5:] = 2
    assert without_borders(labels)[0, 0, 0].tolist() == [1, 1, 1, 1, 0, 0, 2, 2]


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.5, 0.7, 0.999, 1])
def test_balance(share):
    """Rare values weigh more, by the odds of the sample's ones, within limits."""
    rng = np.random.default_rng(5)
    target = (rng.random((3, 3, 20, 20)) < share).astype(np.float32)
    found = balance(torch.from_numpy(target)).numpy()
    assert np.allclose(found, literal_weights(target), rtol=1e-4)


def test_balance_makes_both_sides_count_alike():
    """Ones and zeros have the same total weight."""
    target = (torch.rand(1, 3, 30, 30) < 0.8).float()
    weighted = balance(target)
    assert weighted[target == 1].sum() == pytest.approx(
        float(weighted[target == 0].sum()), rel=1e-4
    )


def test_wmse_sums_channels():
    """Doubling the channels doubles the loss; doubling the batch does not change it."""
    p, t, w = torch.rand(3, 2, 3, 4, 5)
    literal = sum(float(w[i] * (p[i] - t[i]) ** 2) for i in np.ndindex(2, 3, 4, 5)) / (2 * 4 * 5)
    assert wmse(p, t, w) == pytest.approx(literal, rel=1e-5)
    twice = [torch.cat([a, a], dim=1) for a in (p, t, w)]
    assert wmse(*twice) == pytest.approx(2 * literal, rel=1e-5)
    more = [torch.cat([a, a]) for a in (p, t, w)]
    assert wmse(*more) == pytest.approx(literal, rel=1e-5)


def test_slice_loss():
    """The loss sums z, y and x, each over the pixels that have a neighbour there."""
    labels = some_labels(4, (2, 2, 6, 5), 2)
    affs = torch.rand(2, 3, 6, 5)
    target = literal_targets(without_borders(labels).numpy())
    squares = literal_weights(target) * (affs.numpy() - target) ** 2
    literal = (
        squares[:, 0].sum() / (2 * 6 * 5)
        + squares[:, 1, 1:].sum() / (2 * 5 * 5)
        + squares[:, 2, :, 1:].sum() / (2 * 6 * 4)
    )
    assert slice_loss(affs, labels) == pytest.approx(literal, rel=1e-5)


def test_slice_loss_of_the_truth_is_zero():
    """Affinities that equal the targets cost nothing, whatever stands in the border."""
    labels = some_labels(6, (1, 2, 12, 12), 1)
    affs = targets(without_borders(labels))
    affs[:, 1, 0], affs[:, 2, :, 0] = 0.7, 0.3
    assert slice_loss(affs, labels) == 0
