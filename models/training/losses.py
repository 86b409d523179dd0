"""The loss functions.

Every loss is a float32 scalar, made of weighted mean squared errors::

    WMSE(p, t, w) = sum(w * (p - t) ** 2) / number of elements

The elements of a channel are the voxels that have a neighbour at its offset, labelled or not: an
offset s leaves out the first s planes along its axis. Channels are summed, not averaged, and so are
the section pairs of a crop.

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

NEAREST = 10.0
"""Weight of the three channels of offset 1 in the teacher's loss; the others have 1."""


def wmse(p: Tensor, t: Tensor, w: Tensor) -> Tensor:
    """Weighted mean squared error of one channel, a scalar; 0 if it has no element.

    Args:
        p: predicted affinities [B, ...], of the voxels that have a neighbour.
        t: target affinities, of the same voxels.
        w: weights, of the same voxels.
    """
    return (w * (p - t).square()).sum() / max(p.numel(), 1)


def teacher_loss(cosines_BCDYX: Tensor, targets: Targets) -> Tensor:
    """L_3D = 10 * (WMSE_0 + WMSE_1 + WMSE_2) + WMSE_3 + ... + WMSE_11, a scalar.

    Args:
        cosines_BCDYX: the teacher's affinities in all twelve channels, not clamped (-1..1).
        targets: of the same crops.
    """
    losses = list(_channel_losses(cosines_BCDYX, *targets, CHANNELS))
    return NEAREST * torch.stack(losses[:3]).sum() + torch.stack(losses[3:]).sum()


def slice_loss(affs_BP3YX: Tensor, targets: Targets) -> Tensor:
    """L_slice, a scalar: the sum over all pairs of WMSE_z + WMSE_y + WMSE_x.

    Pair p is compared with channels 0..2 of the targets at section p + 1.

    Args:
        affs_BP3YX: the student's affinities, 0..1.
        targets: of the crops, with D = P + 1.
    """
    return _pair_losses(affs_BP3YX, targets.affs_BCDYX[:, :3, 1:], targets)


def distillation_loss(student_BP3YX: Tensor, teacher_BCDYX: Tensor, targets: Targets) -> Tensor:
    """L_cross, a scalar: as `slice_loss`, with the teacher's affinities as targets.

    The target of pair p is ``max(cosine, 0)`` at section p + 1, its weight that of the labels.
    Gradients flow into both networks, as in the authors' code, unless the caller detaches one.

    Args:
        student_BP3YX: the student's affinities, 0..1.
        teacher_BCDYX: the teacher's cosines; only the first three channels are used.
        targets: of the crops; only their weights are used.
    """
    return _pair_losses(student_BP3YX, teacher_BCDYX[:, :3, 1:].relu(), targets)


def grafting_loss(
    lower_BPEYX: Tensor,
    upper_BPEYX: Tensor,
    teacher_BEDYX: Tensor,
    targets: Targets,
    form: Literal["grafted", "released"],
) -> Tensor:
    """L_FGI, a scalar: affinities in z between the student's embeddings and the teacher's.

    "grafted" is the loss that the paper describes. For pair (z, z + 1), e1 and e2 replace the
    teacher's embeddings of sections z and z + 1, and for every z offset s::

        WMSE(cos(section z, section z + s), target of s at z + s)
        WMSE(cos(section z + 1, section z + 1 + s), target of s at z + 1 + s)

    where both sections are in the crop. All terms are summed with weight 1, over s and z. In the
    first one s = 1 compares e1 with e2, without the teacher. The second one is our addition, so
    that e2 is grafted like e1; nearly every edge then counts twice.

    "released" is what the authors' code computes, with its mistakes, for comparison; see
    `_released`.

    Args:
        lower_BPEYX: the student's embeddings e1 of every pair's lower section, not normalised.
        upper_BPEYX: e2, of the upper section.
        teacher_BEDYX: the teacher's embeddings; the caller detaches them if need be.
        targets: of the crops.
        form: see above.
    """
    compute = {"grafted": _grafted, "released": _released}[form]
    teacher_BDEYX = teacher_BEDYX.transpose(1, 2)
    return compute(lower_BPEYX.float(), upper_BPEYX.float(), teacher_BDEYX.float(), targets)


def _grafted(lower: Tensor, upper: Tensor, teacher: Tensor, targets: Targets) -> Tensor:
    """L_FGI as described; embeddings are [B, sections, E, Y, X]."""
    # Normalising products, not embeddings: 1.5 s instead of 2.5 s of CPU at 2x18x160x160.
    e1, e2, volume = ((e, inverse_length(e, 2).squeeze(2)) for e in (lower, upper, teacher))
    total = lower.new_zeros(())
    for channel, offset in _z_channels():
        above_e1 = e2 if offset == 1 else [x[:, offset:] for x in volume]
        above_e2 = [x[:, offset + 1 :] for x in volume]
        for (low, low_scale), (high, high_scale) in (e1, above_e1), (e2, above_e2):
            count = high.shape[1]
            products_BDYX = (low[:, :count] * high).sum(dim=2)
            cosines_BDYX = products_BDYX * low_scale[:, :count] * high_scale
            t_BDYX, w_BDYX = (t[:, channel, t.shape[2] - count :] for t in targets)
            total = total + _section_losses(cosines_BDYX, t_BDYX, w_BDYX)
    return total


def _released(lower: Tensor, upper: Tensor, teacher: Tensor, targets: Targets) -> Tensor:
    """L_FGI as released: dot products of embeddings, not normalised, clamped to 0..1.

    Per section z, the loss of every offset s overwrites that of the one before, so that only the
    largest s with z + s below the last section counts. For s > 1 targets are taken at sections
    z + 1 and z + 2 instead of z + s and z + 1 + s; where these have no neighbour, the target is 0.
    s = 1 has the term of e2 only.
    """
    pairs = lower.shape[1]
    total = lower.new_zeros(())
    on_zeros_B = _weight_of_zeros(targets)
    for channel, offset in _z_channels():
        stop = pairs - offset
        first = 0 if offset == OFFSETS[-1][0] else stop - 1
        if not 0 <= first < stop:
            continue
        t_BDYX, w_BDYX = _padded(targets, channel, offset, on_zeros_B)
        for up, anchor in enumerate((lower, upper)):
            if up == 0 and offset == 1:
                continue
            above = teacher[:, first + up + offset : stop + up + offset]
            products = (anchor[:, first:stop] * above).sum(dim=2).clamp(0, 1)
            section = slice(first + up + 1, stop + up + 1)
            total = total + _section_losses(products, t_BDYX[:, section], w_BDYX[:, section])
    return total


def _weight_of_zeros(targets: Targets) -> Tensor:
    """The weight of zeros in each crop; 1 if it has none."""
    on_zeros_B = (targets.weights_BCDYX * (1 - targets.affs_BCDYX)).amax(dim=(1, 2, 3, 4))
    return torch.where(on_zeros_B > 0, on_zeros_B, 1)


def _padded(
    targets: Targets, channel: int, offset: int, on_zeros_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Targets and weights of one channel, with target 0 in sections without a neighbour.

    There the weight is that of zeros wherever the edge to the next lower section is valid.
    """
    weights_BDYX = targets.weights_BCDYX[:, channel].clone()
    valid_BDYX = targets.weights_BCDYX[:, 0, :offset] > 0
    weights_BDYX[:, :offset] = valid_BDYX * on_zeros_B.view(-1, 1, 1, 1)
    return targets.affs_BCDYX[:, channel], weights_BDYX


def _z_channels() -> Iterable[tuple[int, int]]:
    """Channel and offset of the channels along z."""
    return ((channel, offset) for channel, (axis, offset) in enumerate(CHANNELS) if axis == 0)


def _pair_losses(affs_BP3YX: Tensor, targets_B3PYX: Tensor, targets: Targets) -> Tensor:
    """WMSE_z + WMSE_y + WMSE_x, summed over pairs."""
    affs_B3PYX = affs_BP3YX.transpose(1, 2)
    weights_B3PYX = targets.weights_BCDYX[:, :3, 1:]
    offsets = (0, 0), *CHANNELS[1:3]  # every pair has its z edge
    losses = list(_channel_losses(affs_B3PYX, targets_B3PYX, weights_B3PYX, offsets))
    return affs_BP3YX.shape[1] * torch.stack(losses).sum()


def _section_losses(p_BDYX: Tensor, t_BDYX: Tensor, w_BDYX: Tensor) -> Tensor:
    """The sum of the WMSE of all sections."""
    return p_BDYX.shape[1] * wmse(p_BDYX, t_BDYX, w_BDYX)


def _channel_losses(
    p_BCDYX: Tensor, t_BCDYX: Tensor, w_BCDYX: Tensor, offsets: Iterable[tuple[int, int]]
) -> Iterable[Tensor]:
    """WMSE of each channel; `offsets` gives its axis and its offset along it."""
    channels = (x_BCDYX.unbind(1) for x_BCDYX in (p_BCDYX, t_BCDYX, w_BCDYX))
    for channel, (axis, offset) in zip(zip(*channels, strict=True), offsets, strict=True):
        size = channel[0].shape[axis + 1]
        start = min(offset, size)
        yield wmse(*(x_BDYX.narrow(axis + 1, start, size - start) for x_BDYX in channel))
