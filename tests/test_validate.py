"""Validation: the scores of segmented affinities, and their loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cadseg import config as configs
from cadseg.errors import ConfigError
from cadseg.evaluation.in_memory import scores_at
from cadseg.models.affinity import affinities
from cadseg.models.training.losses import slice_loss
from cadseg.models.training.targets import targets_of
from cadseg.models.training.validate import ValidationConfig, Validator, loss, validated

Array = np.ndarray[Any, Any]

THRESHOLDS = (0.3, 0.9, 0.5)
CONFIG = configs.load("ssem", ("fragments.distance_clip=4", "fragments.sigma=0.5"))


def cells(shape: tuple[int, int, int], width: int) -> Array:
    """Columns of square cells, with background in one corner."""
    _, y, x = np.indices(shape)
    labels = 1 + (y // width) * 50 + x // width
    labels[:, :3, :3] = 0
    return labels


def truth(labels: Array) -> Array:
    """Affinities of a network that knows the labels."""
    found = np.zeros((3, *labels.shape), np.uint8)
    for axis in range(3):
        upper, lower = (np.moveaxis(labels, axis, 0)[at] for at in (np.s_[1:], np.s_[:-1]))
        np.moveaxis(found[axis], axis, 0)[1:] = 255 * ((upper == lower) & (upper > 0))
    return found


def noisy(labels: Array, seed: int) -> Array:
    """Affinities of a network that guesses."""
    noise = np.random.default_rng(seed).integers(0, 256, (3, *labels.shape))
    return (0.6 * truth(labels) + 0.4 * noise).astype(np.uint8)


def student(labels: Array, seed: int) -> Array:
    """Affinities as the student gives them, [3, Z, Y, X] uint8: of random embeddings."""
    noise = np.random.default_rng(seed).random((len(labels), 4, *labels.shape[1:])) - 0.5
    lower, upper = torch.from_numpy(noise[:-1]), torch.from_numpy(noise[1:])
    found = (255 * affinities(lower, upper)).round().byte().numpy()
    return np.concatenate([np.zeros_like(found[:1]), found]).swapaxes(0, 1)


def test_what_is_right_scores_zero() -> None:
    """A network that knows the labels splits and merges nothing."""
    labels = cells((4, 40, 48), 12)
    found = validated(lambda _: truth(labels), [(labels.astype(np.uint8), labels)], CONFIG, [0.5])
    assert found.best.scores.voi_sum == found.best.scores.arand == 0


def test_scores_are_means_over_volumes() -> None:
    """Two volumes of unequal size count alike, threshold by threshold."""
    volumes = {z: cells((z, 30 + z, 40), 9) for z in (3, 7)}
    seen = {z: noisy(labels, z) for z, labels in volumes.items()}
    held_out = [(labels.astype(np.uint8), labels) for labels in volumes.values()]
    found = validated(lambda raw: seen[len(raw)], held_out, CONFIG, THRESHOLDS)
    each = [scores_at(seen[z], volumes[z], THRESHOLDS, CONFIG) for z in volumes]
    assert [point.threshold for point in found.points] == list(THRESHOLDS)
    for point, one, other in zip(found.points, *each, strict=True):
        for name in ("voi_split", "voi_merge", "arand"):
            mean = (getattr(one, name) + getattr(other, name)) / 2
            assert getattr(point.scores, name) == pytest.approx(mean)
    assert found.loss == pytest.approx(np.mean([loss(seen[z], volumes[z]) for z in volumes]))
    assert len({point.scores.voi_sum for point in found.points}) > 1


def test_the_best_threshold() -> None:
    """The best has the lowest VOI; where two are equal it is the higher one."""
    labels = cells((4, 40, 48), 12)
    for thresholds in ([0.5, 0.7, 0.3], [0.3, 0.5, 0.7]):
        found = validated(lambda _: truth(labels), [(labels, labels)], CONFIG, thresholds)
        assert found.best.threshold == 0.7
    found = validated(lambda _: noisy(labels, 1), [(labels, labels)], CONFIG, THRESHOLDS)
    assert found.best.scores.voi_sum == min(point.scores.voi_sum for point in found.points)


def test_the_loss_is_that_of_the_student() -> None:
    """Where all is labelled, it is the mean of the losses of the section pairs."""
    labels = cells((3, 20, 24), 7)
    seen = student(labels, 5)
    pairs = torch.from_numpy(np.stack([labels[:-1], labels[1:]], 1))
    upper = torch.from_numpy(seen[:, 1:].swapaxes(0, 1).copy()).float() / 255
    together = slice_loss(upper[:, None], targets_of(pairs))  # each pair as a crop of its own
    assert loss(seen, labels) == pytest.approx(float(together))


def test_what_is_not_labelled_changes_nothing() -> None:
    """Affinities between unlabelled voxels cost nothing, and labelled ones still do."""
    labels = cells((4, 40, 48), 12)
    labels[:, 25:] = labels[1, 12:] = -1
    good = noisy(labels, 3)
    other = good.copy()
    other[:, :, 26:] = 255 - good[:, :, 26:]
    other[0, 2, 12:] = 7  # a labelled voxel over one that is not
    other[:, 0] = 100  # nothing lies below the first section
    assert loss(other, labels) == loss(good, labels) > 0
    other[0, 2, 5, 5] ^= 128
    assert loss(other, labels) != loss(good, labels)


def test_numbers_that_cannot_be() -> None:
    """No threshold, one outside 0..1, or one below the config's floor is refused at the start."""
    data = {"raw": "a.h5:raw", "labels": "a.h5:labels", "mask": None, "sections": (0, 2)}
    numbers: dict[str, Any] = {"data": (data | {"weight": 1.0},)}
    numbers |= {"config": "ssem", "thresholds": (0.5,)}
    ValidationConfig(**numbers)
    for wrong in ({"data": ()}, {"thresholds": ()}, {"thresholds": (1.5,)}):
        with pytest.raises(ValidationError):
            ValidationConfig(**numbers | wrong)
    for wrong in ({"thresholds": (0.5, 0.05)}, {"config": "nothing"}):
        with pytest.raises(ConfigError):
            Validator(ValidationConfig(**numbers | wrong), "float32")
