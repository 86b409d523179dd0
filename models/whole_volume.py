"""Affinities of a whole small volume in memory, by the student or by the teacher.

They choose checkpoints while a student learns, and show what each network costs; volumes that do
not fit into memory are predicted by `cadseg.workers.predict`.

Raw is uint8 [z, y, x], affinities are uint8 [3, z, y, x]: channels z, y, x, each joining a voxel to
its lower neighbour, 255 times the affinity, rounded half to even; 0 where there is no neighbour.
Networks compute on the device that they are on, as copies in evaluation mode: they are not changed.

Axis letters: B crops, P pairs, D sections, E embedding, Z Y X voxels of a volume.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from cadseg.models.affinity import OFFSETS, affinities, volume_affinities
from cadseg.models.predict import Precision, Uint8, arithmetic, as_bytes, as_floats, folded
from cadseg.models.student import MULTIPLE, Student

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from cadseg.models.affinity import Zyx
    from cadseg.models.teacher import Teacher

TOGETHER = 4
"""Section pairs that the student sees at once: memory for four, and its stem runs 5 times for 4."""

SIGMA, LEAST = 0.2, 1e-6
"""A patch counts where it overlaps others by a Gaussian of this width, and by no less than this.

1 is the distance from its centre to its faces. Both are the authors' numbers.
"""

Box = tuple[slice, ...]


@torch.inference_mode()
def student_affinities(
    student: Student, raw_ZYX: Uint8, *, precision: Precision = "float32"
) -> Uint8:
    """What a run would predict with tiles as large as the sections.

    Sections are mirrored at their far ends to the multiple of 16 that the student takes. The first
    section has none below it and is paired with the one above, as in a run.
    """
    depth, height, width = raw_ZYX.shape
    network = folded(student).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = next(network.parameters()).device
    rests = [(0, -length % MULTIPLE) for length in (height, width)]
    sections_DYX = np.pad(raw_ZYX, [(0, 0), *rests], mode="reflect")
    sections_DYX = np.concatenate([sections_DYX[min(1, depth - 1)][None], sections_DYX])
    out = np.empty((3, *raw_ZYX.shape), np.uint8)
    for z in range(0, depth, TOGETHER):
        x_BDYX = as_floats(sections_DYX[None, z : z + TOGETHER + 1], device)
        with arithmetic(device, precision):
            lower_BPEYX, upper_BPEYX = network.sections(x_BDYX)
        affs_P3YX = affinities(lower_BPEYX[0], upper_BPEYX[0])[..., :height, :width]
        out[:, z : z + TOGETHER] = as_bytes(affs_P3YX).swapaxes(0, 1)
    return _without_first_planes(out)


@torch.inference_mode()
def teacher_affinities(
    teacher: Teacher,
    raw_ZYX: Uint8,
    *,
    patch: Zyx = (18, 160, 160),
    stride: Zyx = (10, 80, 80),
    margin: Zyx = (4, 15, 15),
    precision: Precision = "float32",
) -> Uint8:
    """The mean of overlapping patches, each counting most near its centre.

    The volume is mirrored around its faces, by `margin` at least, until patches cover it evenly; a
    volume with fewer sections than a patch is mirrored up and down again and again.

    Args:
        teacher: any widths.
        raw_ZYX: any shape.
        patch: voxels that the teacher sees at once; 160 x 160 x 18 is what it learns from.
        stride: from patch to patch, at most `patch`; the authors have half a patch.
        margin: mirrored voxels at least, at either face; the authors' numbers.
        precision: of the network's arithmetic.
    """
    assert all(s <= p for s, p in zip(stride, patch, strict=True)), "patches leave gaps"
    network = folded(teacher).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    device = next(network.parameters()).device
    axes = list(map(starts, raw_ZYX.shape, patch, stride, margin))
    mirrors = [
        (-begins[0], begins[-1] + p - length)
        for begins, p, length in zip(axes, patch, raw_ZYX.shape, strict=True)
    ]
    mirrored = np.pad(raw_ZYX, mirrors, mode="reflect")

    def affinities_of(box: Box) -> Tensor:
        with arithmetic(device, precision):
            embeddings_BEDYX = network(as_floats(mirrored[None, *box], device))
        affs_3DYX = volume_affinities(embeddings_BEDYX, OFFSETS[:1])[0]
        for axis, affs_DYX in enumerate(affs_3DYX):  # as the authors do
            affs_DYX.select(axis, 0).copy_(affs_DYX.select(axis, 1))
        return affs_3DYX.clamp_(0, 1)

    boxes = [
        tuple(slice(b - a[0], b - a[0] + p) for a, b, p in zip(axes, begin, patch, strict=True))
        for begin in itertools.product(*axes)
    ]
    patches = ((box, affinities_of(box)) for box in boxes)
    affs_3ZYX = blended(patches, mirrored.shape, weight(patch).to(device))
    here = tuple(slice(m[0], m[0] + n) for m, n in zip(mirrors, raw_ZYX.shape, strict=True))
    return _without_first_planes(as_bytes(affs_3ZYX[:, *here]))


def starts(length: int, patch: int, stride: int, margin: int) -> range:
    """Where the patches of one axis begin; negative where the volume has to be mirrored first.

    As few patches as reach `margin` beyond both faces, equally far beyond either.
    """
    more = max(0, math.ceil((length + 2 * margin - patch) / stride))
    first = -((patch + more * stride - length) // 2)
    return range(first, first + more * stride + 1, stride)


def blended(
    patches: Iterable[tuple[Box, Tensor]], shape: tuple[int, ...], weight_DYX: Tensor
) -> Tensor:
    """The weighted mean [3, z, y, x] of patches [3, z, y, x] that cover a volume of `shape`."""
    sums_3ZYX, weights_ZYX = weight_DYX.new_zeros(3, *shape), weight_DYX.new_zeros(shape)
    for box, affs_3DYX in patches:
        sums_3ZYX[:, *box] += weight_DYX * affs_3DYX
        weights_ZYX[box] += weight_DYX
    return sums_3ZYX.div_(weights_ZYX)


def weight(patch: Iterable[int]) -> Tensor:
    """How much each voxel of a patch counts, float32 [z, y, x]."""
    axes = torch.meshgrid([torch.linspace(-1, 1, n) for n in patch], indexing="ij")
    squared_ZYX = torch.stack(axes).square().sum(dim=0)
    return LEAST + torch.exp(-squared_ZYX / (2 * SIGMA**2))


def _without_first_planes(affs_3ZYX: Uint8) -> Uint8:
    """The same array, 0 where there is no lower neighbour."""
    for axis in range(3):
        affs_3ZYX[axis].swapaxes(0, axis)[0] = 0
    return affs_3ZYX
