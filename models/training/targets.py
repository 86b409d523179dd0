"""What the networks learn from: wanted affinities made of labels, and how much each one counts.

Channels are laid out like those of `cadseg.models.affinity.volume_affinities`: z, y, x of the
first reach in `OFFSETS`, then of the second, and so on. The value at voxel p speaks of the edge
that joins p and p - s along the channel's axis. It is 1 where both voxels carry the same label and
that label is positive, else 0.

Labels are integers: > 0 an object, 0 background, -1 unlabelled. An edge counts if both of its
voxels lie in the crop and both are labelled; other edges have weight 0.

Source of every formula: CAD (Liu et al., CVPR 2024) as its authors' code computes it, but for one
thing: the authors take positions without a neighbour for zeros when they balance a crop, and we
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
"""Limits of the share of ones in a crop; the authors' numbers."""

CHANNELS = tuple((axis, offset) for reach in OFFSETS for axis, offset in enumerate(reach))
"""Axis (0 = z) and offset of every channel."""


class Targets(NamedTuple):
    """Wanted affinities of a batch of crops; see the module's docstring.

    Both are float32, because the losses would turn anything smaller into it more than once.
    """

    wanted_BCDYX: Tensor
    """0 or 1; 0 where the edge does not count."""
    weights_BCDYX: Tensor
    """What an error costs; 0 where the edge does not count."""


def targets_of(labels_BDYX: Tensor) -> Targets:
    """Wanted affinities and their weights, without the pixels between objects.

    Weights make ones and zeros count alike. With f the share of ones among the edges of a crop
    that count, over all channels, clipped to `F_MIN`..`F_MAX`::

        f > 0.5:   w = 1 on ones, f / (1 - f) on zeros
        else:      w = (1 - f) / f on ones, 1 on zeros

    So a crop of ones only, or of zeros only, has weight 1.

    Args:
        labels_BDYX: integer labels with borders still in; -1 is unlabelled.
    """
    labels_BDYX = without_borders(labels_BDYX)
    batch, *shape = labels_BDYX.shape
    wanted_BCDYX = labels_BDYX.new_zeros((batch, len(CHANNELS), *shape), dtype=torch.bool)
    counts_BCDYX = torch.zeros_like(wanted_BCDYX)
    object_BDYX, labelled_BDYX = labels_BDYX > 0, labels_BDYX >= 0
    for channel, (axis, offset) in enumerate(CHANNELS):
        here, there = _ends(labels_BDYX, axis, offset)
        wanted = _ends(wanted_BCDYX[:, channel], axis, offset)[0]
        counts = _ends(counts_BCDYX[:, channel], axis, offset)[0]
        torch.logical_and(here == there, _ends(object_BDYX, axis, offset)[0], out=wanted)
        torch.logical_and(*_ends(labelled_BDYX, axis, offset), out=counts)
    return Targets(wanted_BCDYX.float(), _balanced(wanted_BCDYX, counts_BCDYX))


def without_borders(labels_BDYX: Tensor) -> Tensor:
    """Labels with the pixels between objects set to 0; same shape and dtype.

    A pixel becomes 0 if the 3 x 3 window around it, within its own section, holds more than one
    positive label; unlabelled pixels stay so. Exact for every label. (The authors mirror sections
    at their edges, which adds no label to a window.) For training only: segmentations are scored
    against labels as they are.
    """
    nothing = torch.iinfo(labels_BDYX.dtype).max
    object_BDYX = labels_BDYX > 0
    highest_BDYX = _window(labels_BDYX, torch.maximum)
    lowest_BDYX = _window(labels_BDYX.masked_fill(~object_BDYX, nothing), torch.minimum)
    return labels_BDYX.masked_fill((lowest_BDYX < highest_BDYX) & object_BDYX, 0)


def _window(values_BDYX: Tensor, extreme: Callable[..., Tensor]) -> Tensor:
    """The extreme of every 3 x 3 window, row by row and then column by column."""
    for axis in (2, 3):
        result_BDYX = values_BDYX.clone()
        for this, other in (0, 1), (1, 0):
            here = _ends(result_BDYX, axis - 1, 1)[this]
            extreme(here, _ends(values_BDYX, axis - 1, 1)[other], out=here)
        values_BDYX = result_BDYX
    return values_BDYX


def _ends(values_BDYX: Tensor, axis: int, offset: int) -> tuple[Tensor, Tensor]:
    """Views of the values at p and at p - offset, for all p that have such a neighbour."""
    size = values_BDYX.shape[axis + 1]
    length = max(size - offset, 0)
    upper = values_BDYX.narrow(axis + 1, size - length, length)
    return upper, values_BDYX.narrow(axis + 1, 0, length)


def _balanced(wanted_BCDYX: Tensor, counts_BCDYX: Tensor) -> Tensor:
    """The weights of `targets_of`."""
    ones_B, counted_B = (
        torch.stack([torch.count_nonzero(crop) for crop in edges_BCDYX]).double()
        for edges_BCDYX in (wanted_BCDYX, counts_BCDYX)
    )
    f_B = (ones_B / counted_B.clamp(min=1)).clamp(F_MIN, F_MAX)
    odds_B = f_B / (1 - f_B)
    on_ones_B, on_zeros_B = (
        weight_B.clamp(min=1).float().view(-1, 1, 1, 1, 1) for weight_B in (1 / odds_B, odds_B)
    )
    return torch.where(wanted_BCDYX, on_ones_B, on_zeros_B).mul_(counts_BCDYX)
