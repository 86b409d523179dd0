"""Affinities of a whole small volume in memory, by the student or by the teacher.

They choose checkpoints while a student learns, and show what each network costs; volumes that do
not fit into memory are predicted by `cadseg.workers.predict`.

Raw is uint8 [z, y, x], affinities are uint8 [3, z, y, x]: channels z, y, x, each joining a voxel to
its lower neighbour, 255 times the affinity, rounded half to even; 0 where there is no neighbour.
Networks compute on the device that they are on, as copies in evaluation mode: they are not changed.

Axis letters: B crops, P pairs, D sections, E embedding, Z Y X voxels of a volume.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from cadseg.blocks import Roi, Zyx, zyx
from cadseg.models.predict import arithmetic, as_bytes, as_floats, predicted, ready
from cadseg.models.student import Student
from cadseg.models.teacher import Teacher
from cadseg.models.tiles import Tiling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from cadseg.arrays import Bytes
    from cadseg.models.network import Precision

TOGETHER = 4
"""Section pairs that the student sees at once: memory for four, and its stem runs 5 times for 4."""

SIGMA, LEAST = 0.2, 1e-6
"""A patch counts where it overlaps others by a Gaussian of this width, and by no less than this.

1 is the distance from its centre to its faces. Both are the authors' numbers.
"""

Box = tuple[slice, ...]


class Patches(NamedTuple):
    """How patches cover a volume.

    Attributes:
        size: voxels that the teacher sees at once, z y x.
        stride: from patch to patch, at most `size`.
        margin: mirrored voxels at least, at either face.
    """

    size: Zyx
    stride: Zyx
    margin: Zyx


AUTHORS = Patches((18, 160, 160), (10, 80, 80), (4, 15, 15))
"""The authors' numbers: patches of the size that the teacher learns from, half a patch apart."""


def student_affinities(
    student: Student, raw_ZYX: Bytes, *, precision: Precision = "float32"
) -> Bytes:
    """What a run would predict with tiles as large as the sections."""
    shape, needs = zyx(raw_ZYX.shape), student.needs
    tile = (TOGETHER, *(-(-n // m) * m for n, m in zip(shape[1:], needs.multiple[1:], strict=True)))
    tiling = Tiling(shape, zyx(tile), (needs.sections, (0, 0), (0, 0)), needs)
    network = ready(student, next(student.parameters()).device)
    affs_3ZYX, _ = tiling.predicted(
        Roi((0, 0, 0), shape),
        lambda box: raw_ZYX[box.slices()],
        lambda raw_DYX: predicted(network, raw_DYX, precision),
    )
    return _without_first_planes(affs_3ZYX)


@torch.inference_mode()
def teacher_affinities(
    teacher: Teacher, raw_ZYX: Bytes, patches: Patches, *, precision: Precision = "float32"
) -> Bytes:
    """The mean of overlapping patches, each counting most near its centre.

    The volume is mirrored around its faces, until patches cover it evenly; a volume with fewer
    sections than a patch is mirrored up and down again and again.

    Args:
        teacher: any widths.
        raw_ZYX: any shape.
        patches: how they cover the volume.
        precision: of the network's arithmetic.
    """
    patch, stride, margin = patches
    assert all(s <= p for s, p in zip(stride, patch, strict=True)), "patches leave gaps"
    device = next(teacher.parameters()).device
    network = ready(teacher, device)
    axes = list(map(starts, raw_ZYX.shape, patch, stride, margin))
    mirrors = [
        (-begins[0], begins[-1] + p - length)
        for begins, p, length in zip(axes, patch, raw_ZYX.shape, strict=True)
    ]
    mirrored = np.pad(raw_ZYX, mirrors, mode="reflect")

    def affinities_of(box: Box) -> Tensor:
        with arithmetic(device, precision):
            affs_3DYX = network.affinities(as_floats(mirrored[box], device))
        for axis, affs_DYX in enumerate(affs_3DYX):  # as the authors do
            affs_DYX.select(axis, 0).copy_(affs_DYX.select(axis, 1))
        return affs_3DYX

    boxes = [
        tuple(slice(b - a[0], b - a[0] + p) for a, b, p in zip(axes, begin, patch, strict=True))
        for begin in itertools.product(*axes)
    ]
    found = ((box, affinities_of(box)) for box in boxes)
    affs_3ZYX = blended(found, mirrored.shape, weight(patch).to(device))
    here = tuple(slice(m[0], m[0] + n) for m, n in zip(mirrors, raw_ZYX.shape, strict=True))
    return _without_first_planes(as_bytes(affs_3ZYX[:, *here]))


OF_KIND: dict[str, Callable[..., Bytes]] = {
    Student.kind: student_affinities,
    Teacher.kind: functools.partial(teacher_affinities, patches=AUTHORS),
}
"""By the network's kind, its affinities of a volume as its authors ask it."""


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


def _without_first_planes(affs_3ZYX: Bytes) -> Bytes:
    """The same array, 0 where there is no lower neighbour."""
    for axis in range(3):
        affs_3ZYX[axis].swapaxes(0, axis)[0] = 0
    return affs_3ZYX
