"""Validation: the scores of a network's segmentation of held-out volumes, and its loss on them.

The predicted affinities are segmented in memory by the kernels of a run
(`cadseg.evaluation.in_memory`), and scored against the labels at several thresholds. A held-out
volume is a pair of raw uint8 and integer labels, both [Z, Y, X]: above 0
objects, 0 background, below 0 unlabelled. VOI leaves out background and unlabelled voxels, the loss
only unlabelled ones.

Axis letters: Z Y X voxels of a volume; 1 stands for one crop, and the one pair of its sections, 2
for both sections, 3 for the channels z y x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from cadseg import config as configs
from cadseg.arrays import Array, Bytes
from cadseg.config import Config, Fraction, Strict
from cadseg.evaluation import in_memory
from cadseg.evaluation.curve import Point, best
from cadseg.evaluation.metrics import Scores
from cadseg.models.training.crops import DataConfig, read
from cadseg.models.training.losses import slice_loss
from cadseg.models.training.targets import targets_of
from cadseg.models.whole_volume import OF_KIND

if TYPE_CHECKING:
    from cadseg.models.network import Network, Precision

HeldOut = tuple[Bytes, Array]
Predict = Callable[[Bytes], Bytes]


class ValidationConfig(Strict):
    """The held-out volumes, and how they are segmented.

    Attributes:
        data: the held-out volumes; scores are averaged over them with equal weights.
        config: of the segmentation: a name, or a file.
        thresholds: at which the merge tree is cut, affinities in 0..1.
    """

    data: Annotated[tuple[DataConfig, ...], Field(min_length=1)]
    config: str
    thresholds: Annotated[tuple[Fraction, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Validation:
    """Means over the held-out volumes.

    Attributes:
        points: scores by threshold, in the order of the config.
        loss: of the affinities.
    """

    points: tuple[Point, ...]
    loss: float

    @property
    def best(self) -> Point:
        """The point with the lowest VOI; of equal ones the highest threshold."""
        return best(self.points)


class Validator:
    """Held-out volumes in memory, and how they are segmented."""

    def __init__(self, config: ValidationConfig, precision: Precision) -> None:
        """Read all volumes.

        Raises:
            ConfigError: there is no such segmentation config, or a threshold is outside its range.
            VolumeError: a volume cannot be used, with the reason.
        """
        self._segmentation = configs.load(config.config)
        in_memory.check(self._segmentation, config.thresholds)
        volumes = [read(data) for data in config.data]
        self._held_out = [(volume.raw.numpy(), volume.labels.numpy()) for volume in volumes]
        self._thresholds, self._precision = config.thresholds, precision

    def __call__(self, network: Network) -> Validation:
        """Scores of a network, computed on its device."""

        def predict(raw_ZYX: Bytes) -> Bytes:
            return OF_KIND[network.kind](network, raw_ZYX, precision=self._precision)

        return validated(predict, self._held_out, self._segmentation, self._thresholds)


def validated(
    predict: Predict, held_out: Sequence[HeldOut], config: Config, thresholds: Sequence[float]
) -> Validation:
    """Predict, segment and score all held-out volumes.

    Args:
        predict: affinities uint8 [3, Z, Y, X] of raw uint8 [Z, Y, X].
        held_out: raw and labels, of at least two sections.
        config: of the segmentation.
        thresholds: at which the merge tree is cut.

    Raises:
        ConfigError: a threshold is outside the range of `config`.
        VolumeError: a volume has no objects.
    """
    rows, errors = [], []
    for raw_ZYX, labels_ZYX in held_out:
        affinities_3ZYX = predict(raw_ZYX)
        assert affinities_3ZYX.shape == (3, *raw_ZYX.shape), affinities_3ZYX.shape
        rows.append(in_memory.scores_at(affinities_3ZYX, labels_ZYX, thresholds, config))
        errors.append(loss(affinities_3ZYX, labels_ZYX))
    means = [_mean(scores) for scores in zip(*rows, strict=True)]
    points = [Point(*pair) for pair in zip(thresholds, means, strict=True)]
    return Validation(tuple(points), fmean(errors))


def loss(affinities_3ZYX: Bytes, labels_ZYX: Array) -> float:
    """The student's loss from labels, averaged over all section pairs.

    Pairs are computed one by one, which bounds the memory. The affinities of the first section,
    which has no lower neighbour, do not count.
    """
    found = []
    for z in range(1, len(labels_ZYX)):
        labels_12YX = torch.from_numpy(labels_ZYX[z - 1 : z + 1].astype(np.int64))[None]
        affinities_113YX = torch.from_numpy(affinities_3ZYX[None, None, :, z]).float() / 255
        found.append(float(slice_loss(affinities_113YX, targets_of(labels_12YX))))
    return fmean(found)


def _mean(scores: Sequence[Scores]) -> Scores:
    """Means over volumes, whatever their size."""
    return Scores(
        voi_split=fmean(score.voi_split for score in scores),
        voi_merge=fmean(score.voi_merge for score in scores),
        arand=fmean(score.arand for score in scores),
        voxels=sum(score.voxels for score in scores),
    )
