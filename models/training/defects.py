"""Defects of serial sections, added to training crops so that the networks have seen them.

Artefacts of sectioning, imaging and alignment in single sections, drawn first, as plain data, and
then applied to the crop:

* missing: the section is black, or uniformly grey;
* dark: grey values are multiplied by a factor below 1, so that contrast falls too;
* blurred: out of focus, a Gaussian blur;
* slipped: one section is translated; drifted: a section and all later ones are;
* folded: along a dark, curved band the tissue is doubled up, and both sides are pulled towards it.

Missing, dark and blurred sections change in raw only: their labels stay, so that the networks learn
to interpolate through them. A slip, a drift and a fold move raw and labels together. Inside the
band of a fold labels become background: nothing can be seen there, and cells that were far apart
meet, so the networks are to separate the two sides. That costs a split in one section, which the
neighbouring sections repair; were the band unlabelled, a merge there would cost no loss. Unlabelled
voxels stay unlabelled.

No kind of defect but the drift hits two adjacent sections of a crop.

Axis letters: D sections, Y X pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cadseg.config import Fraction, NonNegative, NonNegativeFloat, Positive, PositiveFloat, Strict

if TYPE_CHECKING:
    from torch import Tensor

    from cadseg.arrays import Integers

FADE = 4  # a fold's displacement decays to 1 / e over this many times its size
BOW = 8  # a fold's band deviates from a straight line by at most width / BOW


class DefectsConfig(Strict):
    """Probabilities, per crop, and strengths of the defects.

    Attributes:
        most: sections of a crop that one kind of defect hits, at most.
        missing: probability of missing sections; black and grey are equally likely.
        dark: probability of dark sections.
        dark_strength: fraction of the grey values that is lost, at most; at least half of it.
        blurred: probability of blurred sections.
        blur_sigma: of the Gaussian, in pixels, at most; at least half of it.
        slipped: probability of slipped sections.
        slip: pixels along y and along x, at most.
        drifted: probability of a drift.
        drift: pixels along y and along x, at most.
        folded: probability of folded sections.
        fold: pixels by which each side is pulled, at most; at least half of it.
        fold_width: width of the dark band, in pixels.
        fold_strength: fraction of the grey values lost in its middle, at most; at least half of it.
    """

    most: Positive
    missing: Fraction
    dark: Fraction
    dark_strength: Fraction
    blurred: Fraction
    blur_sigma: PositiveFloat
    slipped: Fraction
    slip: NonNegative
    drifted: Fraction
    drift: NonNegative
    folded: Fraction
    fold: NonNegativeFloat
    fold_width: NonNegativeFloat
    fold_strength: Fraction

    @property
    def max_shift(self) -> int:
        """Largest translation along an axis, in pixels, of slip and drift together."""
        return self.slip * (self.slipped > 0) + self.drift * (self.drifted > 0)

    @property
    def max_pull(self) -> float:
        """Largest displacement by a fold, in pixels."""
        return self.fold * (self.folded > 0)


@dataclass(frozen=True)
class Fold:
    """A fold along a parabola through a crop, in pixels from the crop's centre.

    Attributes:
        angle: of the line's normal, radians from y towards x.
        offset: distance of its vertex from the centre.
        bow: deviation from the tangent at the vertex, half a crop away from it.
        pull: displacement of either side towards the line, at the line.
        width: full width at half maximum of the dark band.
        strength: fraction of the grey values lost in its middle.
    """

    angle: float
    offset: float
    bow: float
    pull: float
    width: float
    strength: float

    def distance(self, places_2YX: Tensor) -> Tensor:
        """Signed distance [Y, X] from the line, along the normal."""
        y_YX, x_YX = places_2YX.unbind()
        sin, cos = math.sin(self.angle), math.cos(self.angle)
        along_YX = (cos * x_YX - sin * y_YX) * (2 / places_2YX.shape[1])
        return cos * y_YX + sin * x_YX - self.offset + self.bow * along_YX**2

    def sources(self, places_2YX: Tensor) -> Tensor:
        """Coordinates before folding of the tissue at `places_2YX`: farther from the line."""
        distance_YX = self.distance(places_2YX)
        fade_YX = torch.exp(distance_YX.abs() / -max(FADE * self.pull, 1e-6))
        pull_YX = distance_YX.sign() * self.pull * fade_YX
        normal = (math.cos(self.angle), math.sin(self.angle))
        return places_2YX + torch.stack([pull_YX * part for part in normal])


@dataclass(frozen=True)
class Defects:
    """The defects of a crop; the dictionaries are by section.

    Attributes:
        shifts: [D, 2] int64; y and x from a pixel to its source, per section.
        folds: of folded sections.
        dark: factor of the grey values.
        blurred: sigma of the Gaussian, in pixels.
        missing: whether the section is black, or else grey.
    """

    shifts: Integers
    folds: dict[int, Fold]
    dark: dict[int, float]
    blurred: dict[int, float]
    missing: dict[int, bool]


def draw(rng: np.random.Generator, depth: int, width: int, config: DefectsConfig) -> Defects:
    """Random defects of a crop of `depth` sections and `width` pixels."""
    shifts = np.zeros((depth, 2), np.int64)
    for z in draw_sections(rng, depth, config.slipped, config.most):
        shifts[z] += rng.integers(-config.slip, config.slip, 2, endpoint=True)
    if rng.random() < config.drifted and depth > 1:
        shift = rng.integers(-config.drift, config.drift, 2, endpoint=True)
        shifts[rng.integers(1, depth) :] += shift
    sections = [
        draw_sections(rng, depth, probability, config.most)
        for probability in (config.folded, config.dark, config.blurred, config.missing)
    ]
    folded, dark, blurred, missing = sections
    return Defects(
        shifts=shifts,
        folds={z: _fold(rng, width, config) for z in folded},
        dark={z: 1 - config.dark_strength * rng.uniform(0.5, 1) for z in dark},
        blurred={z: config.blur_sigma * rng.uniform(0.5, 1) for z in blurred},
        missing={z: rng.random() < 0.5 for z in missing},
    )


def draw_sections(rng: np.random.Generator, depth: int, probability: float, most: int) -> list[int]:
    """With that probability 1 to `most` of `depth` sections, no two of them adjacent."""
    if rng.random() >= probability:
        return []
    count = rng.integers(1, most, endpoint=True)
    found: list[int] = []
    for z in rng.permutation(depth).tolist():
        if len(found) < count and all(abs(z - other) > 1 for other in found):
            found.append(z)
    return found


def apply(raw_DYX: Tensor, labels_DYX: Tensor, defects: Defects, places_2YX: Tensor) -> None:
    """Apply, in place, the defects that change values; those that move pixels were applied before.

    Args:
        raw_DYX: float32, 0..1; folded sections are moved already.
        labels_DYX: int32, likewise.
        defects: of the crop.
        places_2YX: y and x of every pixel, from the centre of the crop.
    """
    for z, fold in defects.folds.items():
        from_middle_YX = fold.distance(places_2YX).abs() * (2 / max(fold.width, 1e-6))
        raw_DYX[z] *= (1 - fold.strength * torch.exp2(-(from_middle_YX**2))).float()
        labels_DYX[z].masked_fill_((from_middle_YX < 1) & (labels_DYX[z] > 0), 0)
    for z, factor in defects.dark.items():
        raw_DYX[z] *= factor
    for z, sigma in defects.blurred.items():
        raw_DYX[z] = blurred(raw_DYX[z], sigma)
    for z, black in defects.missing.items():
        raw_DYX[z] = 0 if black else raw_DYX[z].mean()


def blurred(raw_YX: Tensor, sigma: float) -> Tensor:
    """A square image smoothed with a Gaussian, renormalised at the image's border."""
    along = torch.arange(raw_YX.shape[0], device=raw_YX.device)
    gaussians_YY = gaussians(along, along, sigma)
    gaussians_YY /= gaussians_YY.sum(1, keepdim=True)
    return gaussians_YY @ raw_YX @ gaussians_YY.T


def gaussians(places: Tensor, centres: Tensor, sigma: float) -> Tensor:
    """Values at `places` of Gaussians with maximum 1 at `centres`, float32 [places, centres]."""
    return torch.exp((places[:, None] - centres[None]) ** 2 / (-2 * sigma**2))


def _fold(rng: np.random.Generator, width: int, config: DefectsConfig) -> Fold:
    return Fold(
        angle=rng.uniform(0, 2 * math.pi),
        offset=rng.uniform(-width / 3, width / 3),
        bow=rng.uniform(-width / BOW, width / BOW),
        pull=config.fold * rng.uniform(0.5, 1),
        width=config.fold_width,
        strength=config.fold_strength * rng.uniform(0.5, 1),
    )
