"""Volumes for the laws: tiny, full of ties and plateaus."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from in_memory import MemoryStore
from scipy import ndimage

from cadseg.agglomeration.scoring import METHODS
from cadseg.blocks import Roi, Zyx

Array = np.ndarray[Any, Any]

THOROUGH = settings.get_current_profile_name() == "thorough"
"""Whether more and larger cases are to be drawn, as `make test` does."""


@dataclass(frozen=True)
class Case:
    """A run's input, and its numbers.

    Attributes:
        seed: of the affinities, and of the mask.
        shape: of the volume.
        levels: different affinities in it.
        grain: length of the cubes in which neighbouring affinities are alike.
        smooth: sigma that joins them into cells, in voxels.
    """

    seed: int
    shape: Zyx
    levels: int = 3
    grain: int = 1
    smooth: float = 0.0
    scoring: str = "mean"
    roi: Roi | None = None
    masked: bool = False
    dimensions: int = 2
    clip: int = 3
    sigma: float = 0.5
    boundary_weight: float = 2.0
    floor: float = 0.1
    threshold: float = 0.5
    min_voxels: int = 0

    @property
    def domain(self) -> Roi:
        """The part to segment."""
        return self.roi or Roi((0, 0, 0), self.shape)

    @property
    def lowest(self) -> Fraction:
        """The floor in units of bytes, exactly as written."""
        return Fraction(str(self.floor)) * 255

    def affinities(self) -> Array:
        """[3, z, y, x] uint8 of a few levels, one of them the floor where that is a byte."""
        rng = np.random.default_rng(self.seed)
        coarse = [-(-n // self.grain) for n in self.shape]
        noise = rng.random((3, *coarse)).repeat(self.grain, 1).repeat(self.grain, 2)
        noise = noise.repeat(self.grain, 3)[:, : self.shape[0], : self.shape[1], : self.shape[2]]
        if self.smooth:
            noise = ndimage.gaussian_filter(noise, (0, 0, self.smooth, self.smooth))
        ranks = noise.ravel().argsort().argsort().reshape(noise.shape) / noise.size
        levels = rng.choice(256, self.levels, replace=False)
        if self.lowest.denominator == 1:
            levels[0] = int(self.lowest)
        levels.sort()
        chosen: Array = levels[(ranks * self.levels).astype(int)].astype(np.uint8)
        return chosen

    def mask(self) -> Array | None:
        """[z, y, x] uint8, 0 for one voxel in six; None where there is no mask."""
        rng = np.random.default_rng(self.seed + 1)
        return (rng.random(self.shape) > 1 / 6).astype(np.uint8) if self.masked else None

    def store(self, block_shape: Zyx | None = None) -> MemoryStore:
        """A run, not begun yet; None for one block."""
        return MemoryStore(
            self.affinities(),
            block_shape=block_shape or self.shape,
            overrides=(
                f"fragments.dimensions={self.dimensions}",
                f"fragments.distance_clip={self.clip}",
                f"fragments.sigma={self.sigma}",
                f"fragments.boundary_weight={self.boundary_weight}",
                f"agglomerate.scoring={self.scoring}",
                f"agglomerate.min_affinity={self.floor}",
                f"segment.threshold={self.threshold}",
                f"segment.min_voxels={self.min_voxels}",
            ),
            roi=self.roi,
            mask=self.mask(),
        )


@st.composite
def rois(draw: st.DrawFn, shape: Zyx) -> Roi:
    """Boxes in the volume, also such that touch none of its sides."""
    begin = [draw(st.integers(0, n - 1)) for n in shape]
    end = [draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True)]
    return Roi((begin[0], begin[1], begin[2]), (end[0], end[1], end[2]))


@st.composite
def cases(draw: st.DrawFn, largest: Zyx = (4, 12, 14)) -> Case:
    """Runs on tiny volumes."""
    shape = (
        draw(st.integers(1, largest[0])),
        draw(st.integers(1, largest[1])),
        draw(st.integers(1, largest[2])),
    )
    floor = draw(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.6, 1.0]))
    return Case(
        seed=draw(st.integers(0, 2**20)),
        shape=shape,
        levels=draw(st.sampled_from([1, 2, 3, 5, 30])),
        grain=draw(st.integers(1, 4)),
        smooth=draw(st.sampled_from([0.0, 1.0])),
        scoring=draw(st.sampled_from(sorted(METHODS))),
        roi=draw(st.none() | rois(shape)),
        masked=draw(st.booleans()),
        dimensions=draw(st.sampled_from([2, 3])),
        clip=draw(st.integers(1, 5)),
        sigma=draw(st.sampled_from([0.1, 0.5, 1.0])),
        boundary_weight=draw(st.sampled_from([0.0, 0.7, 8.0])),
        floor=floor,
        threshold=draw(st.sampled_from([t for t in (0.0, 0.2, 0.3, 0.5, 0.6, 1.0) if t >= floor])),
        min_voxels=draw(st.sampled_from([0, 0, 1, 3, 10, 50])),
    )


def block_shapes(shape: Zyx) -> st.SearchStrategy[Zyx]:
    """Block shapes that cut a volume of `shape` into up to some dozens."""
    return st.tuples(*(st.integers(max(1, n // 4), n) for n in shape))
