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

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

Zyx = tuple[int, int, int]

OFFSETS: tuple[Zyx, ...] = ((1, 1, 1), (2, 3, 3), (3, 9, 9), (4, 27, 27))
"""Distances along z, y, x over which a teacher learns affinities; the authors' numbers."""

EPSILON = 1e-6
"""Embeddings much shorter than this have affinity 0: there is no division by 0."""


class Join(NamedTuple):
    """What a channel joins: every place of `upper` to the one `distance` lower along `axis`.

    `upper` and `lower` say which of the arrays of embeddings; `axis` counts from the end.
    """

    upper: int
    lower: int
    axis: int
    distance: int


_OF_PAIR = (Join(1, 0, -1, 0), Join(1, 1, -2, 1), Join(1, 1, -1, 1))


def affinities(lower_BEYX: Tensor, upper_BEYX: Tensor) -> Tensor:
    """Affinities of the upper section, float32 [B, 3, Y, X] in 0..1; see the module's docstring.

    There may be more axes, or none, in place of B.

    Args:
        lower_BEYX: embedding of section z - 1, any float type, any length.
        upper_BEYX: embedding of section z.
    """
    cosines_B3YX: Tensor = _Cosines.apply(-3, _OF_PAIR, lower_BEYX, upper_BEYX)  # type: ignore[no-untyped-call]
    return cosines_B3YX.clamp(0, 1)


def volume_affinities(embeddings_BEDYX: Tensor, offsets: Sequence[Zyx] = OFFSETS) -> Tensor:
    """Cosines of voxels at distances, float32 [B, 3 x len(offsets), D, Y, X] in -1..1.

    A channel joins a voxel to the one that lies its distance lower along its axis; where there is
    none, it is 0. Channels are z, y, x of the first triple, then of the second, and so on.

    Args:
        embeddings_BEDYX: any float type, any length.
        offsets: distances along z, y, x.
    """
    joins = [Join(0, 0, axis - 3, s) for triple in offsets for axis, s in enumerate(triple)]
    cosines_BCDYX: Tensor = _Cosines.apply(-4, joins, embeddings_BEDYX)  # type: ignore[no-untyped-call]
    return cosines_BCDYX


def inverse_length(embeddings: Tensor, dim: int) -> Tensor:
    """Inverse norms of embeddings along `dim`, which stays as an axis of length 1."""
    return embeddings.square().sum(dim, keepdim=True).add_(EPSILON**2).rsqrt_()


class _Cosines(torch.autograd.Function):
    """Cosines of all joins, in one go.

    PyTorch would make an array of gradients per join, of the size of all embeddings, and add them
    up; this one adds each to the same array.
    """

    @staticmethod
    def forward(ctx: Any, dim: int, joins: Sequence[Join], *embeddings: Tensor) -> Tensor:
        floats = [e.float() for e in embeddings]
        scales = [inverse_length(e, dim) for e in floats]
        units = [e * scale for e, scale in zip(floats, scales, strict=True)]
        ctx.dim, ctx.joins = dim, joins
        ctx.save_for_backward(*scales, *units)
        channels = []
        for join in joins:
            upper, lower = _ends(units, join)
            cosines = (upper * lower).sum(dim)
            missing = min(join.distance, units[join.upper].shape[join.axis])
            channels.append(F.pad(cosines, [*[0, 0] * (-1 - join.axis), missing, 0]))
        return torch.stack(channels, dim)

    @staticmethod
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        half = len(ctx.saved_tensors) // 2
        scales, units = ctx.saved_tensors[:half], ctx.saved_tensors[half:]
        found = [torch.zeros_like(unit) for unit in units]
        for channel, join in enumerate(ctx.joins):
            grad = grads.narrow(ctx.dim, channel, 1)
            grad = _ends([grad], Join(0, 0, *join[2:]))[0]
            upper, lower = _ends(units, join)
            of_upper, of_lower = _ends(found, join)
            of_upper.addcmul_(lower, grad)
            of_lower.addcmul_(upper, grad)
        for grad, unit, scale in zip(found, units, scales, strict=True):
            along = (grad * unit).sum(ctx.dim, keepdim=True)
            # a cosine does not depend on norms: the part along the embedding goes
            grad.addcmul_(unit, along, value=-1).mul_(scale)
        return None, None, *found


def _ends(arrays: Sequence[Tensor], join: Join) -> tuple[Tensor, Tensor]:
    """Views of both ends of a join."""
    upper, lower = arrays[join.upper], arrays[join.lower]
    length = upper.shape[join.axis]
    joined = max(0, length - join.distance)
    return upper.narrow(join.axis, length - joined, joined), lower.narrow(join.axis, 0, joined)
