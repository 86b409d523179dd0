"""Losses, against sums over sections and channels written down as in the paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cadseg.models.training.losses import (
    distillation_loss,
    grafting_loss,
    slice_loss,
    teacher_loss,
    wmse,
)
from cadseg.models.training.targets import targets_of

CROPS = [(2, 2, 5, 6), (1, 3, 4, 5), (2, 5, 5, 6), (1, 5, 4, 30), (2, 8, 1, 3)]
Z_CHANNELS = {1: 0, 2: 3, 3: 6, 4: 9}


def some_targets(shape, seed=0):
    """Targets of random labels, of which some are background and some unlabelled."""
    generator = np.random.default_rng(seed)
    batch, depth, height, width = shape
    coarse = generator.integers(-1, 3, (batch, depth, height, -(-width // 3)))
    return targets_of(torch.from_numpy(coarse.repeat(3, axis=3)[..., :width].astype(np.int32)))


def some_values(*shape, seed=1):
    """Random numbers around 0, of which a gradient can be had."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def embeddings(shape):
    """Student's e1 and e2 and teacher's embeddings of a crop."""
    batch, depth, height, width = shape
    pair = (batch, depth - 1, 4, height, width)
    return (
        some_values(*pair, seed=2),
        some_values(*pair, seed=3),
        some_values(batch, 4, depth, height, width, seed=4),
    )


def number(loss):
    """A loss, which must be one float32, as a Python float."""
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    return loss.item()


def exact(*tensors):
    """Tensors as numpy arrays of doubles."""
    return [tensor.detach().double().numpy() for tensor in tensors]


def literal_wmse(p, t, w):
    """Weighted squared error of one channel of a batch, voxel by voxel."""
    total = sum(w[i] * (p[i] - t[i]) ** 2 for i in np.ndindex(p.shape))
    return total / p.size if p.size else 0.0


def in_plane(p, t, w):
    """Error of the y and the x channel of one section [B, 3, Y, X]."""
    rows = literal_wmse(p[:, 1, 1:], t[:, 1, 1:], w[:, 1, 1:])
    return rows + literal_wmse(p[:, 2, :, 1:], t[:, 2, :, 1:], w[:, 2, :, 1:])


def test_wmse():
    """The error of a region is the sum of its errors over its size, and 0 if it is empty."""
    p, t, w = torch.rand(3, 2, 3, 4)
    assert number(wmse(p, t, w)) == pytest.approx(literal_wmse(*exact(p, t, w)), rel=1e-5)
    assert wmse(*torch.rand(3, 2, 0, 4)) == 0


@pytest.mark.parametrize("shape", CROPS)
def test_teacher_loss(shape):
    """Twelve channels are summed, each over voxels that have a neighbour; short ones tenfold."""
    targets = some_targets(shape)
    cosines = some_values(shape[0], 12, *shape[1:])
    p, t, w = exact(cosines, *targets)
    offsets = [1, 1, 1, 2, 3, 3, 3, 9, 9, 4, 27, 27]
    literal = 0.0
    for c, offset in enumerate(offsets):
        cut = [slice(None)] * 4
        cut[1 + c % 3] = slice(offset, None)
        one = literal_wmse(*(a[:, c][tuple(cut)] for a in (p, t, w)))
        literal += 10 * one if c < 3 else one
    assert number(teacher_loss(cosines, targets)) == pytest.approx(literal, rel=1e-5)


@pytest.mark.parametrize("shape", CROPS)
def test_slice_loss(shape):
    """Pair p is compared with the targets of section p + 1; pairs and channels are summed."""
    targets = some_targets(shape)
    affs = some_values(shape[0], shape[1] - 1, 3, *shape[2:])
    a, t, w = exact(affs, *targets)
    literal = 0.0
    for p in range(shape[1] - 1):
        wanted, weights = t[:, :3, p + 1], w[:, :3, p + 1]
        literal += literal_wmse(a[:, p, 0], wanted[:, 0], weights[:, 0])
        literal += in_plane(a[:, p], wanted, weights)
    assert number(slice_loss(affs, targets)) == pytest.approx(literal, rel=1e-5)


@pytest.mark.parametrize("shape", CROPS)
def test_distillation_loss(shape):
    """Pair p is compared with the teacher's positive cosines of section p + 1."""
    targets = some_targets(shape)
    affs = some_values(shape[0], shape[1] - 1, 3, *shape[2:])
    cosines = some_values(shape[0], 3, *shape[1:], seed=5)
    a, t, w = exact(affs, cosines, targets.weights_BCDYX)
    literal = 0.0
    for p in range(shape[1] - 1):
        wanted, weights = np.maximum(t[:, :, p + 1], 0), w[:, :3, p + 1]
        literal += literal_wmse(a[:, p, 0], wanted[:, 0], weights[:, 0])
        literal += in_plane(a[:, p], wanted, weights)
    assert number(distillation_loss(affs, cosines, targets)) == pytest.approx(literal, rel=1e-5)


def test_truth_costs_nothing():
    """Affinities that equal the targets have no loss, whatever they are at edges of weight 0."""
    targets = some_targets((2, 5, 6, 7))
    cosines = torch.where(targets.weights_BCDYX > 0, targets.affs_BCDYX, 0.7)
    affs = cosines[:, :3, 1:].transpose(1, 2)
    assert teacher_loss(cosines, targets) == 0
    assert slice_loss(affs, targets) == 0
    assert distillation_loss(affs, cosines, targets) == 0
    assert teacher_loss(1 - cosines, targets) > 0


def literal_grafted(e1, e2, teacher, t, w):
    """The loss as described: sections of the teacher replaced, for each pair of a crop."""
    depth = teacher.shape[2]
    total = 0.0
    for z in range(depth - 1):
        graft = teacher.copy()
        graft[:, :, z], graft[:, :, z + 1] = e1[:, z], e2[:, z]
        graft /= np.linalg.norm(graft, axis=1, keepdims=True)
        for s, channel in Z_CHANNELS.items():
            for low in (z, z + 1):
                if low + s <= depth - 1:
                    cosine = (graft[:, :, low] * graft[:, :, low + s]).sum(axis=1)
                    truth, weight = t[:, channel, low + s], w[:, channel, low + s]
                    total += literal_wmse(cosine, truth, weight)
    return total


def literal_released(e1, e2, teacher, t, w):
    """The released loss: every offset overwrites the one before."""
    depth = teacher.shape[2]
    total = 0.0
    for z in range(depth - 1):
        loss = 0.0
        for s, c in Z_CHANNELS.items():
            if z + s > depth - 2:
                continue
            p1 = (e1[:, z] * teacher[:, :, z + s]).sum(axis=1).clip(0, 1)
            p2 = (e2[:, z] * teacher[:, :, z + 1 + s]).sum(axis=1).clip(0, 1)
            if s == 1:
                loss = literal_wmse(p2, t[:, c, z + 2], w[:, c, z + 2])
            else:
                loss = literal_wmse(p1, t[:, c, z + 1], padded(t, w, c, z + 1, s))
                loss += literal_wmse(p2, t[:, c, z + 2], padded(t, w, c, z + 2, s))
        total += loss
    return total


def padded(t, w, channel, section, offset):
    """Weights of a section; without a neighbour those of zeros, where channel 0 is valid."""
    if section >= offset:
        return w[:, channel, section]
    on_zeros = [
        max(set(weights[(wanted == 0) & (weights > 0)]), default=1.0)
        for wanted, weights in zip(t, w, strict=True)
    ]
    return (w[:, 0, section] > 0) * np.array(on_zeros)[:, None, None]


@pytest.mark.parametrize("shape", CROPS)
@pytest.mark.parametrize(
    ("form", "literal"), [("grafted", literal_grafted), ("released", literal_released)]
)
def test_grafting_loss(shape, form, literal):
    """Both forms give what copying sections into the teacher's volume, one by one, gives."""
    targets = some_targets(shape)
    parts = embeddings(shape)
    expected = literal(*exact(*parts, *targets))
    assert number(grafting_loss(*parts, targets, form)) == pytest.approx(expected, rel=1e-5)
    assert (expected > 0) == (form == "grafted" or shape[1] > 2)


def test_grafting_knows_no_length():
    """The norm of embeddings has no effect in the form as described; in the released one it has."""
    targets = some_targets((1, 6, 4, 5))
    parts = embeddings((1, 6, 4, 5))
    longer = [3 * part for part in parts]
    grafted = number(grafting_loss(*parts, targets, "grafted"))
    assert number(grafting_loss(*longer, targets, "grafted")) == pytest.approx(grafted, rel=1e-5)
    released = number(grafting_loss(*parts, targets, "released"))
    assert number(grafting_loss(*longer, targets, "released")) != pytest.approx(released, rel=0.01)


def test_released_in_a_crop_of_one_object():
    """Sections without a neighbour have target 0 and weight 1 if a crop has no other zeros."""
    targets = targets_of(torch.ones(1, 6, 3, 3, dtype=torch.int32))
    parts = embeddings((1, 6, 3, 3))
    expected = literal_released(*exact(*parts, *targets))
    assert number(grafting_loss(*parts, targets, "released")) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", ["grafted", "released"])
def test_embeddings_of_no_length(form):
    """Embeddings of zeros have a finite loss and a finite gradient."""
    parts = [torch.zeros_like(part).requires_grad_() for part in embeddings((1, 6, 4, 5))]
    loss = grafting_loss(*parts, some_targets((1, 6, 4, 5)), form)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(part.grad.isfinite().all() for part in parts)


def test_distillation_pulls_both_networks():
    """Student and teacher get a gradient; a teacher that the caller detached gets none."""
    targets = some_targets((2, 4, 5, 6))
    affs, cosines = some_values(2, 3, 3, 5, 6), some_values(2, 3, 4, 5, 6, seed=5)
    distillation_loss(affs, cosines, targets).backward()
    assert affs.grad.any()
    assert cosines.grad.any()
    again = some_values(2, 3, 4, 5, 6, seed=5)
    distillation_loss(affs, again.detach(), targets).backward()
    assert again.grad is None


@pytest.mark.parametrize("form", ["grafted", "released"])
def test_grafting_pulls_both_networks(form):
    """Both embeddings of the student and those of the teacher get a gradient."""
    parts = embeddings((1, 6, 4, 5))
    grafting_loss(*parts, some_targets((1, 6, 4, 5)), form).backward()
    assert all(part.grad.any() for part in parts)


def test_a_single_pair_is_grafted_without_the_teacher():
    """Between the two sections of a pair the student is compared with itself."""
    lower, upper, teacher = embeddings((1, 2, 4, 5))
    grafting_loss(lower, upper, teacher, some_targets((1, 2, 4, 5)), "grafted").backward()
    assert lower.grad.any()
    assert upper.grad.any()
    assert not teacher.grad.any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_losses_are_the_same_on_a_gpu():
    """Targets, losses and gradients do not depend on the device."""
    shape = (2, 8, 20, 30)
    labels = torch.from_numpy(np.random.default_rng(0).integers(-1, 3, shape).astype(np.int32))
    results = []
    for device in ("cpu", "cuda"):
        targets = targets_of(labels.to(device))
        cosines = some_values(2, 12, *shape[1:]).detach().to(device).requires_grad_()
        parts = [part.detach().to(device).requires_grad_() for part in embeddings(shape)]
        affs = cosines[:, :3, 1:].transpose(1, 2).clamp(0, 1)
        losses = [teacher_loss(cosines, targets), slice_loss(affs, targets)]
        losses += [distillation_loss(affs, 1 - cosines[:, :3], targets)]
        losses += [grafting_loss(*parts, targets, form) for form in ("grafted", "released")]
        torch.stack(losses).sum().backward()
        gradients = [tensor.grad for tensor in (cosines, *parts)]
        results.append([tensor.cpu() for tensor in (*targets, *losses, *gradients)])
    for here, there in zip(*results, strict=True):
        assert torch.allclose(here, there, rtol=1e-4, atol=1e-6)
