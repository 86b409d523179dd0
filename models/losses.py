"""What the student learns from: targets made of labels, and the loss against them.

Targets are ``[B, 3, Y, X]``, channels z, y, x, laid out like the affinities of
`cadseg.models.affinity`: 1 where the two pixels carry the same label and both labels are positive,
else 0. Labels are integers, 0 is background. Where there is no neighbour (first row of y, first
column of x) a target is 0 and takes no part in the loss. Labels below 2**53 are told apart.

Source of every formula: CAD (Liu et al., CVPR 2024) as its authors' code computes it.

Axis letters: B pairs, C the channels z y x, Y X pixels; 2 stands for lower and upper section.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

F_MIN, F_MAX = 0.05, 0.99
"""Limits of the share of ones in a crop, for `balance`; the authors' numbers."""


def without_borders(labels_B2YX: Tensor) -> Tensor:
    """Labels with the pixels between objects set to 0; same shape and dtype.

    A pixel becomes 0 if the 3 x 3 window around it, within its own section, holds more than one
    positive label; windows reach beyond the crop by mirroring. For training only: segmentations
    are scored against labels as they are.
    """
    mirrored = F.pad(labels_B2YX.double(), (1, 1, 1, 1), mode="reflect")
    highest = F.max_pool2d(mirrored, 3, stride=1)
    positive = torch.where(mirrored > 0, mirrored, torch.inf)
    lowest = -F.max_pool2d(-positive, 3, stride=1)
    return labels_B2YX * (lowest >= highest)


def targets(labels_B2YX: Tensor) -> Tensor:
    """Wanted affinities, float32 [B, 3, Y, X], 0 or 1; see the module's docstring.

    Args:
        labels_B2YX: integer labels of the lower and the upper section.
    """
    lower_BYX, upper_BYX = labels_B2YX.unbind(1)
    z_BYX = _same(lower_BYX, upper_BYX)
    y_BYX = F.pad(_same(upper_BYX[:, 1:], upper_BYX[:, :-1]), (0, 0, 1, 0))
    x_BYX = F.pad(_same(upper_BYX[:, :, 1:], upper_BYX[:, :, :-1]), (1, 0))
    return torch.stack([z_BYX, y_BYX, x_BYX], dim=1).float()


def balance(targets_BCYX: Tensor) -> Tensor:
    """Weights that make ones and zeros count alike, float32 [B, C, Y, X].

    With f the share of ones in a sample, over all its channels, clipped to 0.05..0.99::

        f > 0.5:   w = 1 on ones, f / (1 - f) on zeros
        else:      w = (1 - f) / f on ones, 1 on zeros

    So a sample of ones only, or of zeros only, has weight 1 everywhere.
    """
    f_B111 = targets_BCYX.mean(dim=(1, 2, 3), keepdim=True).clamp(F_MIN, F_MAX)
    odds_B111 = f_B111 / (1 - f_B111)
    on_ones = torch.where(f_B111 > 0.5, 1, 1 / odds_B111)
    on_zeros = torch.where(f_B111 > 0.5, odds_B111, 1)
    return torch.where(targets_BCYX > 0, on_ones, on_zeros)


def wmse(affs_BCYX: Tensor, targets_BCYX: Tensor, weights_BCYX: Tensor) -> Tensor:
    """Weighted squared error, a scalar; channels are summed, not averaged.

    ``sum(w * (p - t) ** 2) / (B * Y * X)``
    """
    batch, _, height, width = affs_BCYX.shape
    squares_BCYX = weights_BCYX * (affs_BCYX - targets_BCYX) ** 2
    return squares_BCYX.sum() / (batch * height * width)


def slice_loss(affs_B3YX: Tensor, labels_B2YX: Tensor) -> Tensor:
    """L_slice, a scalar: what a section pair's affinities get wrong about its labels.

    ``WMSE_z + WMSE_y + WMSE_x``, each over the pixels that have a neighbour along that axis, with
    the weights of `balance` over all three. The authors sum over the pairs of a crop; here pairs
    are the batch, and the loss is their mean.

    Args:
        affs_B3YX: the student's affinities, 0..1.
        labels_B2YX: integer labels of lower and upper section, borders still in.
    """
    targets_B3YX = targets(without_borders(labels_B2YX))
    weights_B3YX = balance(targets_B3YX)
    z, y, x = (
        tuple(t[:, c : c + 1] for t in (affs_B3YX, targets_B3YX, weights_B3YX)) for c in range(3)
    )
    return wmse(*z) + wmse(*(t[:, :, 1:] for t in y)) + wmse(*(t[:, :, :, 1:] for t in x))


def _same(a: Tensor, b: Tensor) -> Tensor:
    return (a == b) & (a > 0)
