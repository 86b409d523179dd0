"""Training samples: random pairs of neighbouring sections, cut from labelled volumes.

A volume is an HDF5 file with two datasets of one shape ``[z, y, x]``: raw uint8 and integer labels
(0 and below is background). Its chosen sections are held in memory, labels renumbered from 1. A
sample is sections z - 1 and z of one volume, at one place in y and x. Which one is drawn from an
explicit generator: the same generator gives the same samples.

Axis letters: B pairs, Y X pixels; 2 stands for lower and upper section.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cadseg.config import Strict
from cadseg.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

Raw = NDArray[np.uint8]
Labels = NDArray[np.int64]


class PairsConfig(Strict):
    """One labelled volume.

    Attributes:
        path: of an HDF5 file.
        raw: name of the grey values' dataset in it.
        labels: name of the labels' dataset.
        sections: first, and one past the last, section to learn from.
        weight: how often to draw from this volume, relative to the others.
    """

    path: str
    raw: str
    labels: str
    sections: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)]]
    weight: Annotated[float, Field(gt=0)]


class Pairs:
    """Section pairs of several volumes, drawn in proportion to the volumes' weights."""

    def __init__(self, volumes: Sequence[PairsConfig]) -> None:
        """Read all volumes.

        Raises:
            VolumeError: a file, dataset or section that is not there, or of another type.
        """
        self._volumes = [_read(config) for config in volumes]
        weights = np.array([config.weight for config in volumes])
        self._shares = weights / weights.sum()

    def draw(self, rng: np.random.Generator, size: int) -> tuple[Raw, Labels]:
        """One random pair: raw uint8 [2, size, size] and labels int64 of the same shape.

        A volume narrower than `size` is continued by mirroring, raw and labels alike.
        """
        raw_ZYX, labels_ZYX = self._volumes[rng.choice(len(self._volumes), p=self._shares)]
        z = int(rng.integers(1, len(raw_ZYX)))
        y, x = (int(rng.integers(0, max(0, n - size) + 1)) for n in raw_ZYX.shape[1:])
        box = np.s_[z - 1 : z + 1, y : y + size, x : x + size]
        return (
            _mirrored(raw_ZYX[box], size),
            _mirrored(labels_ZYX[box].astype(np.int64), size),
        )


def _mirrored(pair_2YX: NDArray[Any], size: int) -> NDArray[Any]:
    missing = [size - n for n in pair_2YX.shape[1:]]
    widths = [(m // 2, m - m // 2) for m in missing]
    return np.pad(pair_2YX, [(0, 0), *widths], mode="reflect")


def _read(config: PairsConfig) -> tuple[Raw, NDArray[np.int32]]:
    if not h5py.is_hdf5(config.path):
        raise VolumeError(f"volume {config.path}: no such file; accepted is an HDF5 file")
    with h5py.File(config.path) as file:
        raw, labels = (_dataset(file, name) for name in (config.raw, config.labels))
        _check(config, raw, labels)
        sections = slice(*config.sections)
        return raw[sections], _renumbered(labels[sections])


def _check(config: PairsConfig, raw: h5py.Dataset, labels: h5py.Dataset) -> None:
    if raw.shape != labels.shape:
        raise VolumeError(
            f"volume {config.path}: {config.raw} has shape {raw.shape} and {config.labels} "
            f"has {labels.shape}; accepted are equal shapes"
        )
    begin, end = config.sections
    if not begin + 2 <= end <= len(raw):
        raise VolumeError(
            f"volume {config.path}: sections {begin} to {end} asked for, there are "
            f"{len(raw)}; accepted are at least two sections of these"
        )
    if raw.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise VolumeError(
            f"volume {config.path}: raw is {raw.dtype} and labels are {labels.dtype}; "
            "accepted are uint8 and integers"
        )


def _renumbered(labels_ZYX: NDArray[Any]) -> NDArray[np.int32]:
    """Small ids in the order of the old ones: half the memory, and exact as floats."""
    ids = np.unique(labels_ZYX[labels_ZYX > 0])
    places = np.searchsorted(ids, labels_ZYX).astype(np.int32)
    return np.where(labels_ZYX > 0, places + 1, 0).astype(np.int32)


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset) or found.ndim != 3:
        raise VolumeError(
            f"volume {file.filename}: no dataset {name} with axes z, y, x; it holds "
            f"{', '.join(file)}"
        )
    return found
