"""Training crops: random boxes cut from labelled volumes.

A labelled volume is two arrays ``[z, y, x]`` of the same shape: raw uint8, and labels, integers up
to 2**64 - 1 of which 0 and below is background. A third one, the mask, is optional: where it is 0 a
voxel is unlabelled. The chosen sections are read once and kept in memory, 5 bytes per voxel: raw
uint8, and labels int32, renumbered from 1; 0 is background and -1 unlabelled. The position of a
crop is drawn from an explicit generator: the same generator gives the same crops.

Axis letters: D sections, Y X pixels of a crop; Z the sections of a volume.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cadseg.blocks import Roi, Zyx, zyx
from cadseg.config import NonNegative, Positive, PositiveFloat, Strict
from cadseg.errors import ConfigError, VolumeError
from cadseg.storage.addresses import open_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cadseg.arrays import Array
    from cadseg.storage.addresses import Voxels

SLAB = 32  # sections read at once: 8 bytes per voxel while ids are renumbered
DRAWS = 100  # attempts to find a crop with a labelled voxel


class DataConfig(Strict):
    """One labelled volume; an address is a Zarr array or ``file.h5:dataset``.

    Attributes:
        raw: address of the grey values, uint8.
        labels: address of the labels, integers.
        mask: address of an array that is 0 at unlabelled voxels; None if all are labelled.
        sections: first section to use, and one past the last; None for all.
        weight: probability of drawing from this volume, relative to the others.
    """

    raw: str
    labels: str
    mask: str | None
    sections: tuple[NonNegative, Positive] | None
    weight: PositiveFloat


@dataclass(frozen=True)
class Origin:
    """Where a crop was cut: the address of its raw, and the coordinates of its first voxel there.

    Coordinates are negative where the volume is padded by reflection.
    """

    raw: str
    begin: Zyx

    def __str__(self) -> str:
        """Such as ``ac4.h5:raw at z 3, y 120, x 88``."""
        return f"{self.raw} at z {self.begin[0]}, y {self.begin[1]}, x {self.begin[2]}"


@dataclass(frozen=True, eq=False)
class Crop:
    """Raw uint8 and labels int32, both [D, Y, X] on the CPU, and their origin."""

    raw: Tensor
    labels: Tensor
    origin: Origin


class Crops:
    """Random crops of several volumes, drawn in proportion to the volumes' weights."""

    def __init__(self, configs: Sequence[DataConfig]) -> None:
        """Read all volumes.

        Raises:
            ConfigError: no volume is listed.
            VolumeError: a volume cannot be used, with the reason.
        """
        if not configs:
            raise ConfigError("data: lists no volume; accepted is at least one")
        self._volumes = [read(config) for config in configs]
        weights = np.array([config.weight for config in configs])
        self._probabilities = weights / weights.sum()

    def draw(self, rng: np.random.Generator, shape: Zyx, margin: int = 0) -> Crop:
        """One random crop of `shape`, D Y X, with a labelled voxel unless `DRAWS` attempts fail.

        A volume that is shorter than the crop along an axis is padded there by reflection about its
        first and last voxel, raw and labels alike, as often as needed.

        Args:
            rng: the only source of randomness.
            shape: of the crop, its margin included.
            margin: voxels on every side along Y and X that may lie beyond the volume's faces.
                The augmentation crops them away: without them voxels near the faces would be drawn
                less often than others.
        """
        volume = self._volumes[rng.choice(len(self._volumes), p=self._probabilities)]
        middle = np.s_[:, margin : shape[1] - margin, margin : shape[2] - margin]
        inner = (shape[0], shape[1] - 2 * margin, shape[2] - 2 * margin)
        for _ in range(DRAWS):
            z, y, x = _draw_begin(rng, zyx(volume.raw.shape), inner)
            begin = (z, y - margin, x - margin)
            labels = _cut(volume.labels, begin, shape)
            if (labels[middle] >= 0).any():
                break
        origin = Origin(volume.address, (z + volume.first, *begin[1:]))
        return Crop(_cut(volume.raw, begin, shape), labels, origin)


@dataclass(frozen=True, eq=False)
class LabelledVolume:
    """The chosen sections of a volume; `first` is the index of the first one in its file."""

    raw: Tensor
    labels: Tensor
    address: str
    first: int


def _draw_begin(rng: np.random.Generator, whole: Zyx, part: Zyx) -> Zyx:
    """A random origin for `part` inside `whole`, or around it where `whole` is the shorter one."""
    spare = [n - m for n, m in zip(whole, part, strict=True)]
    return zyx(rng.integers(min(s, 0), max(s, 0), endpoint=True) for s in spare)


def _cut(volume_ZYX: Tensor, begin: Zyx, shape: Zyx) -> Tensor:
    """A box of a volume, padded by reflection beyond its faces."""
    box_DYX = volume_ZYX
    for axis, (b, n, whole) in enumerate(zip(begin, shape, volume_ZYX.shape, strict=True)):
        period = max(1, 2 * (whole - 1))
        place = torch.arange(b, b + n) % period
        place = torch.minimum(place, period - place)
        first = int(place.min())
        box_DYX = box_DYX.narrow(axis, first, int(place.max()) - first + 1)
        if b < 0 or b + n > whole:
            box_DYX = box_DYX.index_select(axis, place - first)
    return box_DYX.clone(memory_format=torch.contiguous_format)


def read(config: DataConfig) -> LabelledVolume:
    """Read a labelled volume after checking it.

    Raises:
        VolumeError: it cannot be used, with the reason.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(open_array(config.raw, "raw"))
        labels = stack.enter_context(open_array(config.labels, "labels"))
        mask = stack.enter_context(open_array(config.mask, "mask")) if config.mask else None
        _check(config, raw, labels, mask)
        begin, end = config.sections or (0, raw.shape[0])
        shape = (end - begin, *raw.shape[1:])
        raw_ZYX, numbers = np.empty(shape, np.uint8), _ConsecutiveIds()
        labels_ZYX = np.empty(shape, np.int32)
        for z in range(0, len(raw_ZYX), SLAB):
            last = min(begin + z + SLAB, end)
            slab = Roi((begin + z, 0, 0), zyx((last, *shape[1:])))
            raw_ZYX[z : z + SLAB] = raw.read(slab)
            ids_ZYX = labels.read(slab)
            labelled_ZYX = np.True_ if mask is None else mask.read(slab) != 0
            found_ZYX = np.where(labelled_ZYX & (ids_ZYX > 0), ids_ZYX, 0).astype(np.uint64)
            labels_ZYX[z : z + SLAB] = np.where(labelled_ZYX, numbers.of(found_ZYX), -1)
    _check_ids(config, labels_ZYX)
    return LabelledVolume(
        torch.from_numpy(raw_ZYX), torch.from_numpy(labels_ZYX), config.raw, begin
    )


def _check(config: DataConfig, raw: Voxels, labels: Voxels, mask: Voxels | None) -> None:
    """Check types, shapes and sections, before anything is read."""
    for what, array, kinds, accepted in (
        ("raw", raw, "u", "uint8"),
        ("labels", labels, "ui", "integers"),
        ("mask", mask, "bui", "integers or booleans"),
    ):
        if array is None:
            continue
        address = getattr(config, what)
        if array.dtype.kind not in kinds or (what == "raw" and array.dtype.itemsize > 1):
            raise VolumeError(f"{what} {address}: is {array.dtype}; accepted are {accepted}")
        if array.shape != raw.shape:
            raise VolumeError(
                f"{what} {address}: has the shape {array.shape}, but raw {config.raw} has "
                f"{raw.shape}; accepted are equal shapes"
            )
    begin, end = config.sections or (0, raw.shape[0])
    if not begin + 2 <= end <= raw.shape[0]:
        raise VolumeError(
            f"raw {config.raw}: sections {begin} to {end} are to be learned from and there are "
            f"{raw.shape[0]}; accepted are at least two sections of these"
        )


def _check_ids(config: DataConfig, labels_ZYX: Array) -> None:
    """Check that there are at least two objects: a single one has no border to learn."""
    where = "" if config.sections is None else f" in sections {config.sections}"
    if (labels_ZYX < 0).all():
        raise VolumeError(
            f"mask {config.mask}: is 0 everywhere{where}; accepted is one that leaves labels"
        )
    count = int(labels_ZYX.max())
    if count < 2:
        found = "holds no object (no label above 0)" if count == 0 else "holds a single object"
        hint = " where the mask is not 0" if config.mask else ""
        raise VolumeError(
            f"labels {config.labels}: {found}{where}{hint}; accepted are two objects or more"
        )


class _ConsecutiveIds:
    """Maps ids to consecutive numbers from 1, in the order of first appearance; 0 stays 0."""

    def __init__(self) -> None:
        self._ids = np.zeros(1, np.uint64)  # sorted
        self._numbers = np.zeros(1, np.int32)

    def of(self, ids_ZYX: Array) -> Array:
        """The numbers of uint64 ids, int32 of the same shape."""
        ids = ids_ZYX.ravel()
        # Runs of equal ids along x: far fewer to sort than voxels.
        begin = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
        new = np.setdiff1d(ids[begin], self._ids)
        fresh = np.arange(len(self._ids), len(self._ids) + len(new), dtype=np.int32)
        place = np.searchsorted(self._ids, new)
        self._ids = np.insert(self._ids, place, new)
        self._numbers = np.insert(self._numbers, place, fresh)
        numbers = self._numbers[np.searchsorted(self._ids, ids[begin])]
        return np.repeat(numbers, np.diff(begin, append=ids.size)).reshape(ids_ZYX.shape)
