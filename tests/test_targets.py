"""Targets, weights and borders, against literal loops over voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cadseg.models.training.targets import targets_of, without_borders

# axis and offset of the twelve channels
CHANNELS = [(0, 1), (1, 1), (2, 1), (0, 2), (1, 3), (2, 3)]
CHANNELS += [(0, 3), (1, 9), (2, 9), (0, 4), (1, 27), (2, 27)]

SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 5), st.integers(1, 31))
LABELS = SHAPES.flatmap(lambda shape: arrays(np.int32, shape, elements=st.integers(-1, 3)))


def literal_borders(labels):
    """Labels without borders, pixel by pixel."""
    out = labels.copy()
    for b, z, y, x in np.ndindex(labels.shape):
        window = labels[b, z, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if labels[b, z, y, x] > 0 and len(set(window[window > 0])) > 1:
            out[b, z, y, x] = 0
    return out


def literal_targets(labels):
    """Target affinities and weights, edge by edge, in float64."""
    labels = literal_borders(labels)
    wanted = np.zeros((len(labels), 12, *labels.shape[1:]))
    counts = np.zeros(wanted.shape, bool)
    for b, z, y, x in np.ndindex(labels.shape):
        for c, (axis, offset) in enumerate(CHANNELS):
            other = [z, y, x]
            other[axis] -= offset
            if min(other) < 0:
                continue
            one, two = labels[b, z, y, x], labels[(b, *other)]
            counts[b, c, z, y, x] = one >= 0 and two >= 0
            wanted[b, c, z, y, x] = one == two and one > 0
    return wanted, np.stack([literal_weights(*crop) for crop in zip(wanted, counts, strict=True)])


def literal_weights(wanted, counts):
    """Balancing weights of one crop."""
    if not 0 < wanted.sum() < counts.sum():
        return counts * 1.0
    f = min(max(wanted.sum() / counts.sum(), 0.05), 0.99)
    on_ones, on_zeros = (1, f / (1 - f)) if f > 0.5 else ((1 - f) / f, 1)
    return np.where(wanted > 0, on_ones, on_zeros) * counts


@given(LABELS)
@settings(max_examples=60)
def test_targets(labels):
    """An edge is 1 where both voxels have the same positive label; weights balance the classes."""
    found = targets_of(torch.from_numpy(labels))
    wanted, weights = literal_targets(labels)
    assert found.affs_BCDYX.dtype == found.weights_BCDYX.dtype == torch.float32
    assert np.array_equal(found.affs_BCDYX.numpy(), wanted)
    assert np.allclose(found.weights_BCDYX.numpy(), weights, rtol=1e-6)


def test_long_edges():
    """In a crop that has every edge, each channel joins voxels as far apart as it should."""
    labels = np.zeros((1, 6, 30, 31), np.int32)
    labels[:, :, ::3, ::3] = np.random.default_rng(0).integers(1, 3, (1, 6, 10, 11))
    found = targets_of(torch.from_numpy(labels)).affs_BCDYX.numpy()
    wanted = literal_targets(labels)[0]
    assert np.flatnonzero(~wanted.any(axis=(0, 2, 3, 4))).tolist() == [1, 2]  # dots touch nothing
    assert np.array_equal(found, wanted)


def test_unlabelled_voxels_have_no_weight():
    """An edge with an unlabelled voxel has no weight, and a crop without labels has none at all."""
    labels = torch.ones(2, 3, 4, 5, dtype=torch.int32)
    labels[0, 1, 2, 3], labels[1] = -1, -1
    wanted, weights = targets_of(labels)
    assert weights[0, 0, 1:, 2, 3].tolist() == [0, 0]
    assert weights[0, 1, 1, 2:4, 3].tolist() == [0, 0]
    assert weights[0, 2, 1, 2, 3:5].tolist() == [0, 0]
    assert weights[0, 0, 1:].count_nonzero() == 2 * 4 * 5 - 2
    assert not wanted[1].any()
    assert not weights[1].any()


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.5, 0.7, 0.999, 1])
def test_balance(share):
    """The rarer class has the larger weight, by the odds of the crop's ones, within limits."""
    labels = (np.random.default_rng(5).random((3, 3, 12, 12)) < share).astype(np.int32)
    found = targets_of(torch.from_numpy(labels)).weights_BCDYX.numpy()
    assert np.allclose(found, literal_targets(labels)[1], rtol=1e-6)


def test_balance_makes_both_sides_count_alike():
    """Ones and zeros have the same total weight in every crop."""
    labels = torch.from_numpy(np.random.default_rng(0).random((2, 4, 30, 30)) < 0.8).int()
    for wanted, weights in zip(*targets_of(labels), strict=True):
        zeros = float(weights[wanted == 0].double().sum())
        assert weights[wanted == 1].double().sum() == pytest.approx(zeros, rel=1e-4)


@given(LABELS)
@settings(max_examples=60)
def test_borders_are_taken_out(labels):
    """A pixel whose 3 x 3 window holds two positive labels becomes background; others stay."""
    result = without_borders(torch.from_numpy(labels))
    assert result.dtype == torch.int32
    assert np.array_equal(result.numpy(), literal_borders(labels))


def test_borders_are_taken_out_once():
    """Between two touching objects a border of two pixels appears, one on each side."""
    labels = torch.ones(1, 1, 4, 8, dtype=torch.int32)
    labels[..., 5:] = 2
    assert without_borders(labels)[0, 0, 0].tolist() == [1, 1, 1, 1, 0, 0, 2, 2]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_large_labels_are_told_apart(dtype):
    """Neighbouring numbers are two objects, up to the largest that there is."""
    largest = torch.iinfo(dtype).max
    labels = torch.full((1, 1, 3, 8), largest, dtype=dtype)
    labels[..., 4:] = largest - 1
    expected = [largest] * 3 + [0, 0] + [largest - 1] * 3
    assert without_borders(labels)[0, 0, 1].tolist() == expected
