"""Random changes to a training sample that leave its meaning as it is.

A sample is a pair of sections: raw uint8 ``[2, P, P]`` and labels int64 of the same shape, lower
section first. It comes in with a margin around the wanted crop, so that a rotated crop still lies
inside: no black corners. In-plane changes treat raw (linear interpolation) and labels (nearest)
alike, and both sections alike. Every change is drawn from an explicit generator: the same
generator gives the same sample.

The kinds of change, and the numbers for grey values, are those of CAD (Liu et al., CVPR 2024).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from cadseg.config import Strict

if TYPE_CHECKING:
    from cadseg.models.pairs import Labels, Raw

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Grid = NDArray[np.float64]  # [2, Y, X]: y and x of where to look, in pixels of the sample


class AugmentConfig(Strict):
    """How much to change, and how often.

    Attributes:
        flip: share of samples flipped, separately along y, along x, by transposing, in z.
        rotate: share of samples rotated in the plane, by any angle.
        elastic: share of samples bent by a smooth displacement field.
        elastic_sigma: smoothness of that field, in pixels.
        elastic_std: standard deviation of its displacements, in pixels.
        grey: share of samples with changed grey values.
        per_section: share of those whose two sections change independently.
        contrast: the contrast changes by a factor of at most 1 + contrast / 2.
        brightness: at most brightness / 2 is added, grey values being 0..1.
        gamma: the exponent lies between 2 ** -gamma and 2 ** gamma.
    """

    flip: Share
    rotate: Share
    elastic: Share
    elastic_sigma: Annotated[float, Field(gt=0)]
    elastic_std: Amount
    grey: Share
    per_section: Share
    contrast: Amount
    brightness: Amount
    gamma: Amount


def margin(config: AugmentConfig, crop: int) -> int:
    """Pixels that a sample needs on every side of its crop."""
    turned = crop * (math.sqrt(2) - 1) / 2 if config.rotate else 0
    bent = 4 * config.elastic_std if config.elastic else 0
    return math.ceil(turned + bent) + 1


def augment(
    rng: np.random.Generator, raw_2PP: Raw, labels_2PP: Labels, *, crop: int, config: AugmentConfig
) -> tuple[Raw, Labels]:
    """A changed sample without its margin: raw uint8 and labels int64, [2, crop, crop].

    Args:
        rng: drawn from; decides everything.
        raw_2PP: grey values, `crop` + 2 `margin` pixels wide.
        labels_2PP: of the same shape.
        crop: width of the result, in pixels.
        config: how much, how often.
    """
    raw_2PP, labels_2PP = flip(rng, raw_2PP, labels_2PP, config.flip)
    angle = rng.uniform(0, 2 * math.pi) if rng.random() < config.rotate else 0.0
    grid_2YX = rotated_grid(crop, (raw_2PP.shape[1] - 1) / 2, angle)
    if rng.random() < config.elastic:
        grid_2YX += displacement(rng, crop, config.elastic_sigma, config.elastic_std)
    raw_2YX, labels_2YX = look_up(raw_2PP, labels_2PP, grid_2YX)
    if rng.random() < config.grey:
        raw_2YX = change_grey(rng, raw_2YX, config)
    return raw_2YX, labels_2YX


def flip(
    rng: np.random.Generator, raw_2YX: Raw, labels_2YX: Labels, share: float
) -> tuple[Raw, Labels]:
    """Swap the sections, mirror y, mirror x, transpose, each in `share` of all cases."""
    z, y, x, transpose = rng.random(4) < share
    step = np.s_[:: -1 if z else 1, :: -1 if y else 1, :: -1 if x else 1]
    axes = (0, 2, 1) if transpose else (0, 1, 2)
    return raw_2YX[step].transpose(axes), labels_2YX[step].transpose(axes)


def rotated_grid(crop: int, centre: float, angle: float) -> Grid:
    """Where the pixels of a crop lie, turned by `angle` radians about (`centre`, `centre`)."""
    along = np.arange(crop) - (crop - 1) / 2
    y_YX, x_YX = np.meshgrid(along, along, indexing="ij")
    sin, cos = math.sin(angle), math.cos(angle)
    return np.stack([cos * y_YX - sin * x_YX, sin * y_YX + cos * x_YX]) + centre


def displacement(rng: np.random.Generator, crop: int, sigma: float, std: float) -> Grid:
    """A smooth random field [2, crop, crop] of displacements along y and x, in pixels.

    White noise smoothed with a Gaussian of `sigma` pixels and scaled to a standard deviation of
    `std`; no displacement exceeds 4 `std`.
    """
    noise_2YX = rng.standard_normal((2, crop, crop))
    smooth_2YX = ndimage.gaussian_filter(noise_2YX, (0, sigma, sigma), mode="wrap")
    scaled_2YX = smooth_2YX * (std / max(float(smooth_2YX.std()), 1e-12))
    clipped_2YX: Grid = scaled_2YX.clip(-4 * std, 4 * std)
    return clipped_2YX


def look_up(raw_2PP: Raw, labels_2PP: Labels, grid_2YX: Grid) -> tuple[Raw, Labels]:
    """Raw (linear) and labels (nearest) at the places of `grid_2YX`, in both sections."""
    sections = [
        ndimage.map_coordinates(raw_PP, grid_2YX, order=1, mode="mirror", output=np.float32)
        for raw_PP in raw_2PP
    ]
    y_YX, x_YX = np.rint(grid_2YX).astype(np.intp).clip(0, labels_2PP.shape[1] - 1)
    return np.rint(sections).astype(np.uint8), labels_2PP[:, y_YX, x_YX]


def change_grey(rng: np.random.Generator, raw_2YX: Raw, config: AugmentConfig) -> Raw:
    """Change contrast, brightness and gamma, of the pair or of each section by itself.

    With g in 0..1: ``clip(g * (1 + a) + b, 0, 1) ** 2**c``, where a, b, c are uniform between
    plus and minus contrast / 2, brightness / 2 and gamma.
    """
    sections = 2 if rng.random() < config.per_section else 1
    limits = (config.contrast / 2, config.brightness / 2, config.gamma)
    a, b, c = (rng.uniform(-limit, limit, (sections, 1, 1)) for limit in limits)
    changed_2YX = (raw_2YX / 255 * (1 + a) + b).clip(0, 1) ** 2.0**c
    return np.rint(changed_2YX * 255).astype(np.uint8)
