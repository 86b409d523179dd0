"""What the networks learn to make small.

Every loss is a weighted squared error, and a float32 scalar::

    WMSE(p, t, w) = sum(w * (p - t) ** 2) / (B * lengths of the region)

The region of a channel are the voxels that have a neighbour there, labelled or not: an offset s
along an axis cuts the first s planes. Channels are summed, not averaged, and so are the section
pairs of a crop.

Pair p of a crop are its sections p (`lower`) and p + 1 (`upper`). The student's affinities of pair
p are those of section p + 1. Channels, targets and weights: `cadseg.models.training.targets`.

Source of every formula: CAD (Liu et al., CVPR 2024) as its authors' code computes it.

Axis letters: B crops, P section pairs, E embedding, C channels, D = P + 1 sections, Y X pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from cadseg.models.affinity import OFFSETS, inverse_length
from cadseg.models.training.targets import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cadseg.models.training.targets import Targets

SHORT = 10.0
"""How much more than the others the three channels of offset 1 count for the teacher."""


def wmse(p: Tensor, t: Tensor, w: Tensor) -> Tensor:
    """Weighted squared error over a region of one channel, a scalar; 0 if the region is empty.

    Args:
        p: affinities [B, ...], cut to the voxels that have a neighbour.
        t: wanted affinities, cut in the same way.
        w: weights, cut in the same way.
    """
    return (w * (p - t).square()).sum() / max(p.numel(), 1)


def teacher_loss(cosines_BCDYX: Tensor, targets: Targets) -> Tensor:
    """L_3D = 10 * (WMSE_0 + WMSE_1 + WMSE_2) + WMSE_3 + ... + WMSE_11, a scalar.

    Args:
        cosines_BCDYX: the teacher's affinities in all twelve channels, not clamped (-1..1).
        targets: of the same crops.
    """
    losses = list(_channels(cosines_BCDYX, *targets, CHANNELS))
    return SHORT * torch.stack(losses[:3]).sum() + torch.stack(losses[3:]).sum()


def slice_loss(affs_BP3YX: Tensor, targets: Targets) -> Tensor:
    """L_slice, a scalar: the sum over all pairs of WMSE_z + WMSE_y + WMSE_x.

    Pair p is compared with channels 0..2 of the targets at section p + 1.

    Args:
        affs_BP3YX: the student's affinities, 0..1.
        targets: of the crops, with D = P + 1.
    """
    return _pairs(affs_BP3YX, targets.wanted_BCDYX[:, :3, 1:], targets)


def distillation_loss(student_BP3YX: Tensor, teacher_BCDYX: Tensor, targets: Targets) -> Tensor:
    """L_cross, a scalar: as `slice_loss`, but the teacher says what is wanted.

    It is ``max(cosine, 0)`` at section p + 1, with the weights of the targets. Gradients flow into
    both networks, as with the authors; a caller that wants none in the teacher detaches it.

    Args:
        student_BP3YX: the student's affinities, 0..1.
        teacher_BCDYX: the teacher's cosines; channels beyond the third are not looked at.
        targets: of the crops; their weights alone matter.
    """
    return _pairs(student_BP3YX, teacher_BCDYX[:, :3, 1:].relu(), targets)


def grafting_loss(
    lower_BPEYX: Tensor,
    upper_BPEYX: Tensor,
    teacher_BEDYX: Tensor,
    targets: Targets,
    form: Literal["grafted", "released"],
) -> Tensor:
    """L_FGI, a scalar: affinities in z between the student's embeddings and the teacher's.

    "grafted" is what the authors meant to do. For pair (z, z + 1), e1 and e2 take the place of
    the teacher's sections z and z + 1, everything is normalised, and for every z offset s::

        WMSE(cos(section z, section z + s), target of s at z + s)
        WMSE(cos(section z + 1, section z + 1 + s), target of s at z + 1 + s)

    as long as both sections are in the crop. All terms are summed with weight 1, over s and z. In
    the first one s = 1 compares e1 with e2, and the teacher has no part in it. The second one is
    our addition, so that e2 is grafted as e1 is; about every edge then counts twice.

    "released" is what the authors' code does, mistakes included, for comparison; see `_released`.

    Args:
        lower_BPEYX: the student's embeddings e1 of every pair's lower section, any length.
        upper_BPEYX: e2, of the upper section.
        teacher_BEDYX: the teacher's embeddings; their gradient is left to the caller.
        targets: of the crops.
        form: see above.
    """
    compute = {"grafted": _grafted, "released": _released}[form]
    teacher_BDEYX = teacher_BEDYX.transpose(1, 2)
    return compute(lower_BPEYX.float(), upper_BPEYX.float(), teacher_BDEYX.float(), targets)


def _grafted(lower: Tensor, upper: Tensor, teacher: Tensor, targets: Targets) -> Tensor:
    """L_FGI as intended; embeddings are [B, sections, E, Y, X]."""
    # Dividing products by lengths, not embeddings: 1.5 s instead of 2.5 s of CPU at 2x18x160x160.
    e1, e2, volume = ((e, inverse_length(e, 2).squeeze(2)) for e in (lower, upper, teacher))
    total = lower.new_zeros(())
    for channel, offset in _z_channels():
        above_e1 = e2 if offset == 1 else [x[:, offset:] for x in volume]
        above_e2 = [x[:, offset + 1 :] for x in volume]
        for (low, low_scale), (high, high_scale) in (e1, above_e1), (e2, above_e2):
            count = high.shape[1]
            products_BDYX = (low[:, :count] * high).sum(dim=2)
            cosines_BDYX = products_BDYX * low_scale[:, :count] * high_scale
            wanted, weights = (t[:, channel, t.shape[2] - count :] for t in targets)
            total = total + _sections(cosines_BDYX, wanted, weights)
    return total


def _released(lower: Tensor, upper: Tensor, teacher: Tensor, targets: Targets) -> Tensor:
    """L_FGI as released: products of embeddings as they are, clamped to 0..1.

    Every offset s overwrites the loss of the one before, so that only the last one with z + s no
    higher than the last but one section counts. For s > 1 targets are taken at sections z + 1 and
    z + 2, not z + s and z + 1 + s; where these have no neighbour, zeros are wanted; s = 1 has the
    term of e2 only.
    """
    pairs = lower.shape[1]
    total = lower.new_zeros(())
    on_zeros_B = _weight_of_zeros(targets)
    for channel, offset in _z_channels():
        stop = pairs - offset
        first = 0 if offset == OFFSETS[-1][0] else stop - 1
        if not 0 <= first < stop:
            continue
        wanted, weights = _padded(targets, channel, offset, on_zeros_B)
        for up, anchor in enumerate((lower, upper)):
            if up == 0 and offset == 1:
                continue
            above = teacher[:, first + up + offset : stop + up + offset]
            products = (anchor[:, first:stop] * above).sum(dim=2).clamp(0, 1)
            section = slice(first + up + 1, stop + up + 1)
            total = total + _sections(products, wanted[:, section], weights[:, section])
    return total


def _weight_of_zeros(targets: Targets) -> Tensor:
    """The weight of each crop's zeros; 1 if it has none."""
    on_zeros_B = (targets.weights_BCDYX * (1 - targets.wanted_BCDYX)).amax(dim=(1, 2, 3, 4))
    return torch.where(on_zeros_B > 0, on_zeros_B, 1)


def _padded(
    targets: Targets, channel: int, offset: int, on_zeros_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Targets of one channel where sections without a neighbour want zeros, and count as such.

    They count where the edge to the next lower section does.
    """
    weights_BDYX = targets.weights_BCDYX[:, channel].clone()
    known_BDYX = targets.weights_BCDYX[:, 0, :offset] > 0
    weights_BDYX[:, :offset] = known_BDYX * on_zeros_B.view(-1, 1, 1, 1)
    return targets.wanted_BCDYX[:, channel], weights_BDYX


def _z_channels() -> Iterable[tuple[int, int]]:
    """Channel and offset of everything along z."""
    return ((channel, offset) for channel, (axis, offset) in enumerate(CHANNELS) if axis == 0)


def _pairs(affs_BP3YX: Tensor, wanted_B3PYX: Tensor, targets: Targets) -> Tensor:
    """WMSE_z + WMSE_y + WMSE_x, summed over pairs."""
    affs_B3PYX = affs_BP3YX.transpose(1, 2)
    weights_B3PYX = targets.weights_BCDYX[:, :3, 1:]
    cuts = (0, 0), *CHANNELS[1:3]  # every pair has its z edge: nothing to cut
    losses = list(_channels(affs_B3PYX, wanted_B3PYX, weights_B3PYX, cuts))
    return affs_BP3YX.shape[1] * torch.stack(losses).sum()


def _sections(p_BDYX: Tensor, t_BDYX: Tensor, w_BDYX: Tensor) -> Tensor:
    """The sum of every section's WMSE."""
    return p_BDYX.shape[1] * wmse(p_BDYX, t_BDYX, w_BDYX)


def _channels(
    p_BCDYX: Tensor, t_BCDYX: Tensor, w_BCDYX: Tensor, cuts: Iterable[tuple[int, int]]
) -> Iterable[Tensor]:
    """WMSE of each channel, without the first planes of its axis, as many as its offset."""
    channels = (x_BCDYX.unbind(1) for x_BCDYX in (p_BCDYX, t_BCDYX, w_BCDYX))
    for channel, (axis, offset) in zip(zip(*channels, strict=True), cuts, strict=True):
        size = channel[0].shape[axis + 1]
        start = min(offset, size)
        yield wmse(*(x_BDYX.narrow(axis + 1, start, size - start) for x_BDYX in channel))
