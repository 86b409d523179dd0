"""Affinities between neighbouring pixels, from embeddings of a section pair or of a volume.

Affinities of a pair are ``[B, 3, Y, X]`` in 0..1, channels in the order z, y, x. The affinity at a
pixel of the upper section joins it to its *lower* neighbour along that axis: the same pixel of the
lower section (z), the pixel above (y), the pixel to the left (x). It is the cosine of the angle
between the two embeddings, clamped to 0..1. In-plane affinities come from the upper section's
embedding alone. The first row of y and the first column of x are 0: there is nothing to be joined
to.

Affinities of a volume reach over longer distances too: three channels, z, y, x, per triple of
distances. They are not clamped, -1..1: a loss must see how far from each other two voxels are.

Source: CAD (Liu et al., CVPR 2024), except for the border, where the authors repeat another row.

Axis letters: B pairs or crops, E embedding, C channels, D sections, Y X pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

Zyx = tuple[int, int, int]

OFFSETS: tuple[Zyx, ...] = ((1, 1, 1), (2, 3, 3), (3, 9, 9), (4, 27, 27))
"""Distances along z, y, x over which a teacher learns affinities; the authors' numbers."""

EPSILON = 1e-6
"""Embeddings shorter than this count as this long: no division by 0, affinity 0."""


def affinities(lower_BEYX: Tensor, upper_BEYX: Tensor) -> Tensor:
    """Affinities of the upper section, float32 [B, 3, Y, X] in 0..1; see the module's docstring.

    Args:
        lower_BEYX: embedding of section z - 1, any float type, any length.
        upper_BEYX: embedding of section z.
    """
    u_BEYX = F.normalize(lower_BEYX.float(), dim=1, eps=EPSILON)
    v_BEYX = F.normalize(upper_BEYX.float(), dim=1, eps=EPSILON)
    z_BYX = (u_BEYX * v_BEYX).sum(dim=1)
    y_BYX = (v_BEYX[:, :, 1:] * v_BEYX[:, :, :-1]).sum(dim=1)
    x_BYX = (v_BEYX[:, :, :, 1:] * v_BEYX[:, :, :, :-1]).sum(dim=1)
    y_BYX = F.pad(y_BYX, (0, 0, 1, 0))
    x_BYX = F.pad(x_BYX, (1, 0))
    return torch.stack([z_BYX, y_BYX, x_BYX], dim=1).clamp(0, 1)


def volume_affinities(embeddings_BEDYX: Tensor, offsets: Sequence[Zyx] = OFFSETS) -> Tensor:
    """Cosines of voxels at distances, float32 [B, 3 x len(offsets), D, Y, X] in -1..1.

    A channel joins a voxel to the one that lies its distance lower along its axis; where there is
    none, it is 0. Channels are z, y, x of the first triple, then of the second, and so on.

    Args:
        embeddings_BEDYX: any float type, any length.
        offsets: distances along z, y, x.
    """
    v_BEDYX = F.normalize(embeddings_BEDYX.float(), dim=1, eps=EPSILON)
    channels = [
        _cosines(v_BEDYX, axis, distance)
        for triple in offsets
        for axis, distance in enumerate(triple, start=2)
    ]
    return torch.stack(channels, dim=1)


def _cosines(v_BEDYX: Tensor, axis: int, distance: int) -> Tensor:
    """[B, D, Y, X]; of all that is kept for the gradients, `v_BEDYX` is the largest."""
    length = v_BEDYX.shape[axis]
    joined = max(0, length - distance)
    upper = v_BEDYX.narrow(axis, length - joined, joined)
    lower = v_BEDYX.narrow(axis, 0, joined)
    begins = [0, 0, 0]  # how many zeros along x, y, z come first
    begins[4 - axis] = length - joined
    return F.pad((upper * lower).sum(dim=1), [n for begin in begins for n in (begin, 0)])
