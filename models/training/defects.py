"""Defects of serial sections, added to training crops so that the networks have seen them.

What the section cutter, the microscope and the alignment do to single sections, drawn first, as
plain data, and then done to pixels:

* missing: the section is black, or evenly grey;
* dark: grey values shrink towards black, and contrast with them;
* blurred: out of focus;
* slipped: the section lies beside its place; drifted: it and all later ones do;
* folded: along a dark, bowed band the tissue is doubled up, and both sides are pulled towards it.

Grey values alone change where a section is missing, dark or blurred: labels stay, so that the
networks learn to go on through what cannot be seen. A slip, a drift and a fold move raw and labels
together, since truth is what lies at a place. Under the band of a fold nothing can be seen, and
cells that are no neighbours meet there: labels become background, which teaches the networks to
part the two sides. That costs a split in one section, which its neighbours heal; unlabelled, the
band would be free to merge. What is unlabelled stays so.

One kind of defect never hits two neighbouring sections of a crop, a drift apart.

Axis letters: D sections, Y X pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from cadseg.config import Strict, Unit

if TYPE_CHECKING:
    from torch import Tensor

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Pixels = Annotated[int, Field(ge=0)]

FADE = 4  # the pull of a fold falls to 1 / e over so many times its size
BOW = 8  # a fold's band leaves a straight line by at most this part of the crop's width


class DefectsConfig(Strict):
    """How often which defect, and how bad; a share is one of crops.

    Attributes:
        most: sections of a crop that a kind of defect hits, at most.
        missing: share with sections that are black or, as often, grey.
        dark: share with dark sections.
        dark_strength: part of the grey values that a dark section loses: half of this to all of it.
        blurred: share with blurred sections.
        blur_sigma: of the Gaussian, in pixels: half of this to all of it.
        slipped: share with sections beside their place.
        slip: by how many pixels along y and along x, at most.
        drifted: share with a section from which on all are beside their place.
        drift: by how many pixels along y and along x, at most.
        folded: share with folded sections.
        fold: by how many pixels each side is pulled, at most; half of it at least.
        fold_width: width of the dark band, in pixels.
        fold_strength: part of the grey values lost in its middle: half of this to all of it.
    """

    most: Annotated[int, Field(gt=0)]
    missing: Unit
    dark: Unit
    dark_strength: Unit
    blurred: Unit
    blur_sigma: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    slipped: Unit
    slip: Pixels
    drifted: Unit
    drift: Pixels
    folded: Unit
    fold: Amount
    fold_width: Amount
    fold_strength: Unit

    @property
    def farthest(self) -> int:
        """Pixels along an axis by which slip and drift together move a section, at most."""
        return self.slip * (self.slipped > 0) + self.drift * (self.drifted > 0)

    @property
    def pull(self) -> float:
        """Pixels by which a fold moves anything, at most."""
        return self.fold * (self.folded > 0)


@dataclass(frozen=True)
class Fold:
    """A bowed line through a crop, in pixels from its centre.

    Attributes:
        angle: of its normal, radians from y towards x.
        offset: distance from the centre.
        bow: how far the line leaves a straight one, half a crop away from its middle.
        pull: by how many pixels either side is moved towards it.
        width: of the dark band, at whose edges half of `strength` is left.
        strength: part of the grey values lost in its middle.
    """

    angle: float
    offset: float
    bow: float
    pull: float
    width: float
    strength: float

    def distance(self, places_2YX: Tensor) -> Tensor:
        """Signed distance [Y, X] of places from the line."""
        y_YX, x_YX = places_2YX.unbind()
        sin, cos = math.sin(self.angle), math.cos(self.angle)
        along_YX = (cos * x_YX - sin * y_YX) * (2 / places_2YX.shape[1])
        return cos * y_YX + sin * x_YX - self.offset + self.bow * along_YX**2

    def moved(self, places_2YX: Tensor) -> Tensor:
        """Where the tissue that is seen at `places_2YX` was before: farther from the line."""
        distance_YX = self.distance(places_2YX)
        fade_YX = torch.exp(distance_YX.abs() / -max(FADE * self.pull, 1e-6))
        pull_YX = distance_YX.sign() * self.pull * fade_YX
        normal = (math.cos(self.angle), math.sin(self.angle))
        return places_2YX + torch.stack([pull_YX * part for part in normal])


@dataclass(frozen=True)
class Defects:
    """What happens to a crop, by section.

    Attributes:
        shifts: [D, 2] int64; y and x by which a section's tissue is looked up beside its place.
        folds: of folded sections.
        dark: factor of the grey values.
        blurred: sigma of the Gaussian.
        missing: whether it is black, or else grey.
    """

    shifts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    folds: dict[int, Fold]
    dark: dict[int, float]
    blurred: dict[int, float]
    missing: dict[int, bool]


def drawn(rng: np.random.Generator, depth: int, width: int, config: DefectsConfig) -> Defects:
    """The defects of a crop of `depth` sections and `width` pixels."""
    shifts = np.zeros((depth, 2), np.int64)
    for z in struck(rng, depth, config.slipped, config.most):
        shifts[z] += rng.integers(-config.slip, config.slip, 2, endpoint=True)
    if rng.random() < config.drifted and depth > 1:
        shift = rng.integers(-config.drift, config.drift, 2, endpoint=True)
        shifts[rng.integers(1, depth) :] += shift
    sections = [
        struck(rng, depth, share, config.most)
        for share in (config.folded, config.dark, config.blurred, config.missing)
    ]
    folded, dark, blurred, missing = sections
    return Defects(
        shifts=shifts,
        folds={z: _fold(rng, width, config) for z in folded},
        dark={z: 1 - config.dark_strength * rng.uniform(0.5, 1) for z in dark},
        blurred={z: config.blur_sigma * rng.uniform(0.5, 1) for z in blurred},
        missing={z: rng.random() < 0.5 for z in missing},
    )


def struck(rng: np.random.Generator, depth: int, share: float, most: int) -> list[int]:
    """In `share` of all cases 1 to `most` of `depth` sections, no two of them neighbours."""
    if rng.random() >= share:
        return []
    count = rng.integers(1, most, endpoint=True)
    found: list[int] = []
    for z in rng.permutation(depth).tolist():
        if len(found) < count and all(abs(z - other) > 1 for other in found):
            found.append(z)
    return found


def spoil(raw_DYX: Tensor, labels_DYX: Tensor, defects: Defects, places_2YX: Tensor) -> None:
    """Do to pixels, in place, what has not been done by moving them.

    Args:
        raw_DYX: float32, 0..1; folded sections are moved already.
        labels_DYX: int32, likewise.
        defects: what to do.
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
    """A square image smoothed with a Gaussian, whose part beyond the image is left out."""
    along = torch.arange(raw_YX.shape[0], device=raw_YX.device)
    bells_YY = bells(along, along, sigma)
    bells_YY /= bells_YY.sum(1, keepdim=True)
    return bells_YY @ raw_YX @ bells_YY.T


def bells(places: Tensor, centres: Tensor, sigma: float) -> Tensor:
    """Heights at `places` of Gaussians about `centres`, float32 [places, centres]."""
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
