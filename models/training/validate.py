"""How good a network is on volumes that it does not learn from: segmented by our own kernels.

The affinities that it predicts are segmented in memory as a run would do it
(`cadseg.evaluation.in_memory`), and scored against the labels at several thresholds; besides, they
have a loss. A held-out volume is a pair of raw uint8 and integer labels, both [Z, Y, X]: above 0
objects, 0 background, below 0 unlabelled. VOI leaves out background and unlabelled voxels, the loss
unlabelled ones alone.

Axis letters: Z Y X voxels of a volume; 1 stands for one crop, and the one pair of its sections, 2
for both sections, 3 for the channels z y x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from cadseg import config as configs
from cadseg.config import Config, Strict, Unit
from cadseg.evaluation import in_memory
from cadseg.evaluation.curve import Point, best
from cadseg.evaluation.metrics import Scores
from cadseg.models.training.crops import DataConfig, read
from cadseg.models.training.losses import slice_loss
from cadseg.models.training.targets import targets_of
from cadseg.models.whole_volume import OF_KIND

if TYPE_CHECKING:
    from cadseg.models.network import Network, Precision

HeldOut = tuple[NDArray[np.uint8], NDArray[Any]]
Predict = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class ValidationConfig(Strict):
    """What is validated on, and with which numbers.

    Attributes:
        data: volumes that nothing is learned from; every one counts alike.
        config: of the segmentation: a name, or a file.
        thresholds: at which it is cut, affinities in 0..1.
    """

    data: Annotated[tuple[DataConfig, ...], Field(min_length=1)]
    config: str
    thresholds: Annotated[tuple[Unit, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Validation:
    """Means over the held-out volumes.

    Attributes:
        points: scores by threshold, in the order that was asked for.
        loss: what is wrong with the affinities themselves.
    """

    points: tuple[Point, ...]
    loss: float

    @property
    def best(self) -> Point:
        """The threshold with the lowest sum of VOI, of equal ones the highest; its scores."""
        return best(self.points)


class Validator:
    """Held-out volumes in memory, and how they are segmented."""

    def __init__(self, config: ValidationConfig, precision: Precision) -> None:
        """Read all volumes.

        Raises:
            ConfigError: there is no such segmentation config, or it cannot be cut there.
            VolumeError: a volume that cannot be compared with, with the reason.
        """
        self._segmentation = configs.load(config.config)
        in_memory.check(self._segmentation, config.thresholds)
        volumes = [read(data) for data in config.data]
        self._held_out = [(volume.raw.numpy(), volume.labels.numpy()) for volume in volumes]
        self._thresholds, self._precision = config.thresholds, precision

    def __call__(self, network: Network) -> Validation:
        """Scores of a network, on the device that it is on."""

        def predict(raw_ZYX: NDArray[np.uint8]) -> NDArray[np.uint8]:
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
        thresholds: at which it is cut.

    Raises:
        ConfigError: it cannot be cut there.
        VolumeError: a volume without objects.
    """
    rows, lost = [], []
    for raw_ZYX, labels_ZYX in held_out:
        affinities_3ZYX = predict(raw_ZYX)
        assert affinities_3ZYX.shape == (3, *raw_ZYX.shape), affinities_3ZYX.shape
        rows.append(in_memory.scores_at(affinities_3ZYX, labels_ZYX, thresholds, config))
        lost.append(loss(affinities_3ZYX, labels_ZYX))
    means = [_mean(scores) for scores in zip(*rows, strict=True)]
    points = [Point(*pair) for pair in zip(thresholds, means, strict=True)]
    return Validation(tuple(points), fmean(lost))


def loss(affinities_3ZYX: NDArray[np.uint8], labels_ZYX: NDArray[Any]) -> float:
    """Weighted squared error of affinities, summed over z, y and x, the mean of all section pairs.

    Each pair is a sample of its own, as in the student's training: nothing is kept of it but its
    loss. The affinities of the first section, which has no lower one, do not count.
    """
    found = []
    for z in range(1, len(labels_ZYX)):
        labels_12YX = torch.from_numpy(labels_ZYX[z - 1 : z + 1].astype(np.int64))[None]
        affinities_113YX = torch.from_numpy(affinities_3ZYX[None, None, :, z]).float() / 255
        found.append(float(slice_loss(affinities_113YX, targets_of(labels_12YX))))
    return fmean(found)


def _mean(scores: Sequence[Scores]) -> Scores:
    """Every volume counts alike, whatever its size."""
    return Scores(
        voi_split=fmean(score.voi_split for score in scores),
        voi_merge=fmean(score.voi_merge for score in scores),
        arand=fmean(score.arand for score in scores),
        voxels=sum(score.voxels for score in scores),
    )
