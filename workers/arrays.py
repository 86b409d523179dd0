"""The arrays of a run's folder: what their voxels are, and what a voxel takes on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ArrayKind:
    """One array, or a pyramid of arrays.

    Attributes:
        dtype: numpy's name of the type.
        lead: lengths of the axes before z, y, x.
        compressed: bytes per voxel of the volume after compression: on the safe side of what 95
            Mvoxel of SNEMI3D took (affinities 2.05, basins 0.25, fragments 0.31, segmentation
            0.25).
        pyramid: whether there is an array per level of the pyramid, named by its number.
    """

    dtype: str
    lead: tuple[int, ...]
    compressed: float
    pyramid: bool = False

    @property
    def voxel(self) -> int:
        """Bytes per voxel of the volume before compression."""
        return np.dtype(self.dtype).itemsize * math.prod(self.lead)


ARRAYS = {
    "affinities": ArrayKind("uint8", (3,), 2.3),
    "basins": ArrayKind("uint32", (), 0.4),
    "fragments": ArrayKind("uint64", (), 0.5),
    "segmentation": ArrayKind("uint64", (), 0.4, pyramid=True),
}
AFFINITIES, BASINS, IDS = (ARRAYS[name].voxel for name in ("affinities", "basins", "fragments"))
"""Bytes per voxel."""
