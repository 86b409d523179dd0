"""Targets: affinities computed from labels, and the weight of each in the loss.

Channels are those of `cadseg.models.affinity.volume_affinities`: z, y, x of the first triple in
`OFFSETS`, then of the second, and so on. With s the offset of a channel, the value at voxel p is
that of the edge between p and p - s: 1 if both voxels have the same positive label, else 0.

Labels are integers: > 0 an object, 0 background, -1 unlabelled. An edge is valid if both of its
voxels lie in the crop and are labelled; other edges have weight 0.

Source of every formula: CAD (Liu et al., CVPR 2024) as its authors' code computes it, with one
exception: to balance the classes, the authors count positions without a neighbour as zeros, and we
leave them out.

Axis letters: B crops, C channels, D sections, Y X pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cadseg.models.affinity import OFFSETS

if TYPE_CHECKING:
    from collections.abc import Callable

F_MIN, F_MAX = 0.05, 0.99
"""Limits of the fraction of ones in a crop; the authors' numbers."""

CHANNELS = tuple((axis, offset) for reach in OFFSETS for axis, offset in enumerate(reach))
"""Axis (0 = z) and offset of every channel."""


class Targets(NamedTuple):
    """Targets of a batch of crops; see the module's docstring.

    Both are float32: every loss would have to convert a smaller type again.
    """

    affs_BCDYX: Tensor
    """0 or 1; 0 where the edge is not valid."""
    weights_BCDYX: Tensor
    """Weight of the squared error; 0 where the edge is not valid."""


def targets_of(labels_BDYX: Tensor) -> Targets:
    """Targets and their weights; voxels on borders between objects become background first.

    Weights balance the two classes. With f the fraction of ones among the valid edges of a crop,
    over all channels, clipped to `F_MIN`..`F_MAX`::

        f > 0.5:   w = 1 on ones, f / (1 - f) on zeros
        else:      w = (1 - f) / f on ones, 1 on zeros

    So a crop of ones only, or of zeros only, has weight 1.

    Args:
        labels_BDYX: integer labels, in which objects may touch; -1 is unlabelled.
    """
    labels_BDYX = without_borders(labels_BDYX)
    batch, *shape = labels_BDYX.shape
    affs_BCDYX = labels_BDYX.new_zeros((batch, len(CHANNELS), *shape), dtype=torch.bool)
    valid_BCDYX = torch.zeros_like(affs_BCDYX)
    object_BDYX, labelled_BDYX = labels_BDYX > 0, labels_BDYX >= 0
    for channel, (axis, offset) in enumerate(CHANNELS):
        here, there = _ends(labels_BDYX, axis, offset)
        affs = _ends(affs_BCDYX[:, channel], axis, offset)[0]
        valid = _ends(valid_BCDYX[:, channel], axis, offset)[0]
        torch.logical_and(here == there, _ends(object_BDYX, axis, offset)[0], out=affs)
        torch.logical_and(*_ends(labelled_BDYX, axis, offset), out=valid)
    return Targets(affs_BCDYX.float(), _balanced(affs_BCDYX, valid_BCDYX))


def without_borders(labels_BDYX: Tensor) -> Tensor:
    """Labels with the borders between objects set to 0; same shape and dtype.

    A pixel becomes 0 if the 3 x 3 window around it, within its own section, holds more than one
    positive label; unlabelled pixels stay unlabelled. (The authors mirror sections at their edges,
    which adds no label to a window.) For training only: segmentations are scored against the labels
    as they are.
    """
    nothing = torch.iinfo(labels_BDYX.dtype).max
    object_BDYX = labels_BDYX > 0
    highest_BDYX = _window(labels_BDYX, torch.maximum)
    lowest_BDYX = _window(labels_BDYX.masked_fill(~object_BDYX, nothing), torch.minimum)
    return labels_BDYX.masked_fill((lowest_BDYX < highest_BDYX) & object_BDYX, 0)


def _window(values_BDYX: Tensor, extreme: Callable[..., Tensor]) -> Tensor:
    """Minimum or maximum of every 3 x 3 window, computed along y and then along x."""
    for axis in (2, 3):
        result_BDYX = values_BDYX.clone()
        for this, other in (0, 1), (1, 0):
            here = _ends(result_BDYX, axis - 1, 1)[this]
            extreme(here, _ends(values_BDYX, axis - 1, 1)[other], out=here)
        values_BDYX = result_BDYX
    return values_BDYX


def _ends(values_BDYX: Tensor, axis: int, offset: int) -> tuple[Tensor, Tensor]:
    """Views of the values at p and at p - offset, for all p that have this neighbour."""
    size = values_BDYX.shape[axis + 1]
    length = max(size - offset, 0)
    upper = values_BDYX.narrow(axis + 1, size - length, length)
    return upper, values_BDYX.narrow(axis + 1, 0, length)


def _balanced(affs_BCDYX: Tensor, valid_BCDYX: Tensor) -> Tensor:
    """The weights of `targets_of`."""
    ones_B, counted_B = (
        torch.stack([torch.count_nonzero(crop) for crop in edges_BCDYX]).double()
        for edges_BCDYX in (affs_BCDYX, valid_BCDYX)
    )
    f_B = (ones_B / counted_B.clamp(min=1)).clamp(F_MIN, F_MAX)
    odds_B = f_B / (1 - f_B)
    on_ones_B, on_zeros_B = (
        weight_B.clamp(min=1).float().view(-1, 1, 1, 1, 1) for weight_B in (1 / odds_B, odds_B)
    )
    return torch.where(affs_BCDYX, on_ones_B, on_zeros_B).mul_(valid_BCDYX)
