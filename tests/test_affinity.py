"""Affinities of a volume, over several distances."""

from __future__ import annotations

import numpy as np
import torch

from cadseg.models.affinity import OFFSETS, affinities, volume_affinities


def test_affinities_join_a_voxel_to_a_lower_one():
    """The affinity of a voxel is the cosine with the voxel its distance lower along its axis."""
    offsets = ((1, 1, 1), (2, 3, 2))
    embeddings = np.random.default_rng(1).normal(size=(2, 3, 4, 5, 6))
    expected = np.zeros((2, 6, 4, 5, 6))
    for b, c, z, y, x in np.ndindex(expected.shape):
        far = [z, y, x]
        far[c % 3] -= offsets[c // 3][c % 3]
        if min(far) >= 0:
            one, two = embeddings[b, :, z, y, x], embeddings[(b, slice(None), *far)]
            expected[b, c, z, y, x] = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    found = volume_affinities(torch.from_numpy(embeddings), offsets)
    assert found.dtype == torch.float32
    assert np.allclose(found.numpy(), expected, atol=1e-6)
    assert expected.min() < -0.5


def test_too_far_for_the_volume():
    """Where a volume is thinner than the distance there is nothing to join: affinities are 0."""
    affs = volume_affinities(torch.ones(1, 2, 2, 9, 30))
    assert affs.shape == (1, 3 * len(OFFSETS), 2, 9, 30)
    assert affs[0].flatten(1).any(dim=1).tolist() == [1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1]


def test_a_pair_is_a_volume_of_two_sections():
    """Affinities of a section pair are those of its upper section in a volume, clamped."""
    both = torch.randn(1, 4, 2, 5, 6)
    of_pair = affinities(*both.unbind(2))
    assert torch.allclose(volume_affinities(both, OFFSETS[:1])[:, :, 1].clamp(0, 1), of_pair)


def test_gradients():
    """Slopes are those of the cosines, over every distance at once."""
    embeddings = torch.randn(1, 2, 3, 4, 4, requires_grad=True)
    offsets = ((1, 1, 1), (2, 3, 3))
    affs = volume_affinities(embeddings, offsets)
    counts = torch.randn(affs.shape)
    (found,) = torch.autograd.grad((affs * counts).sum(), embeddings)

    total = torch.zeros(())
    for channel, distance in enumerate(d for triple in offsets for d in triple):
        axis = 1 + channel % 3
        rolled = embeddings.roll(distance, axis + 1)
        cosines = torch.nn.functional.cosine_similarity(embeddings, rolled, dim=1)
        there = torch.arange(cosines.shape[axis]) >= distance
        shape = [-1 if axis == a else 1 for a in range(4)]
        total = total + (cosines * there.view(shape) * counts[:, channel]).sum()
    (expected,) = torch.autograd.grad(total, embeddings)
    assert torch.allclose(found, expected, atol=1e-5)


def test_gradients_of_a_pair():
    """Slopes are those of the cosines, in both sections; more axes come first in any number."""
    both = [torch.randn(2, 3, 4, 5, 6, requires_grad=True) for _ in range(2)]
    affs = affinities(*both)
    counts = torch.randn(affs.shape)
    found = torch.autograd.grad((affs * counts).sum(), both)

    lower, upper = (torch.nn.functional.normalize(e, dim=2) for e in both)
    z = ((lower * upper).sum(2).relu() * counts[:, :, 0]).sum()
    y = (upper * upper.roll(1, 3)).sum(2).relu() * counts[:, :, 1]
    x = (upper * upper.roll(1, 4)).sum(2).relu() * counts[:, :, 2]
    expected = torch.autograd.grad(z + y[:, :, 1:].sum() + x[..., 1:].sum(), both)
    for one, two in zip(found, expected, strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_embeddings_of_no_length_have_gradients():
    """Where an embedding is 0 the gradient is a number."""
    lower, upper = (torch.zeros(1, 2, 3, 3, requires_grad=True) for _ in range(2))
    affinities(lower, upper).sum().backward()
    assert lower.grad.isfinite().all()
    assert upper.grad.isfinite().all()
