"""Data augmentation: random transforms of a training crop under which its labels stay true.

A crop is raw uint8 and labels int32, ``[D, P, P]``. It comes in with a margin around the width of
the result, so that a rotated crop has no empty corners. Geometric transforms in the plane are
composed into one, the same for all sections except for the defects of single sections
(`cadseg.models.training.defects`), so that raw (bilinear) and labels (nearest neighbour) are
interpolated once. All randomness comes from an explicit numpy generator, and augmentation runs on
the CPU: the same generator gives the same crop on every device.

The transforms, except for the defects, and the numbers for grey values are those of CAD (Liu et
al., CVPR 2024).

Axis letters: D sections, P pixels with the margin, Y X pixels without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import grid_sample

from cadseg.config import Fraction, NonNegativeFloat, PositiveFloat, Strict
from cadseg.models.training.defects import Defects, DefectsConfig, apply, draw, gaussians

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from cadseg.arrays import Array

CLIP = 3  # displacements are clipped at this many standard deviations


class AugmentConfig(Strict):
    """Probabilities and strengths of the transforms.

    Attributes:
        flip: probability of mirroring z, y, x and of transposing the plane, each drawn separately.
        rotate: probability of a rotation in the plane, by any angle.
        rescale: probability of scaling, along y and x independently.
        rescale_by: by a factor between 1 minus and 1 plus this.
        elastic: probability of an elastic deformation.
        elastic_sigma: of the Gaussian that smooths its displacement field, in pixels.
        elastic_std: standard deviation of its displacements, in pixels.
        grey: probability of changed grey values.
        per_section: probability that they change in each section independently.
        contrast: the contrast changes by a factor of at most 1 + contrast / 2.
        brightness: at most brightness / 2 is added, grey values being 0..1.
        gamma: the exponent lies between 2 ** -gamma and 2 ** gamma.
        defects: of single sections.
    """

    flip: Fraction
    rotate: Fraction
    rescale: Fraction
    rescale_by: Annotated[float, Field(ge=0, lt=1)]
    elastic: Fraction
    elastic_sigma: PositiveFloat
    elastic_std: NonNegativeFloat
    grey: Fraction
    per_section: Fraction
    contrast: NonNegativeFloat
    brightness: NonNegativeFloat
    gamma: NonNegativeFloat
    defects: DefectsConfig


def margin(config: AugmentConfig, width: int) -> int:
    """Pixels that a crop needs beyond `width` on every side."""
    reach = width / 2 + config.defects.max_pull
    reach /= 1 - config.rescale_by * (config.rescale > 0)
    reach *= math.sqrt(2) if config.rotate else 1
    reach += CLIP * config.elastic_std * (config.elastic > 0) + config.defects.max_shift
    return math.ceil(reach - width / 2)


def augment(
    rng: np.random.Generator,
    raw_DPP: Tensor,
    labels_DPP: Tensor,
    *,
    width: int,
    config: AugmentConfig,
) -> tuple[Tensor, Tensor]:
    """An augmented crop without its margin: raw float32 0..1, labels int32, [D, width, width].

    Args:
        rng: the only source of randomness.
        raw_DPP: grey values, uint8, `width` + 2 `margin` pixels wide.
        labels_DPP: int32, of the same shape.
        width: of the result, in pixels.
        config: probabilities and strengths.
    """
    depth, *sides = raw_DPP.shape
    assert sides == [width + 2 * margin(config, width)] * 2, f"a margin is missing: {sides}"
    raw_DPP, labels_DPP = flip(rng, raw_DPP, labels_DPP, config.flip)
    transform = draw_transform(rng, width, config)
    defects = draw(rng, depth, width, config.defects)
    grid_2YX = centred_grid(width)
    raw_DYX = torch.empty((depth, width, width))
    labels_DYX = torch.empty((depth, width, width), dtype=torch.int32)
    for sections, sources_2YX in sources_of(grid_2YX, transform, defects):
        raw_DYX[sections] = sample(raw_DPP[sections], sources_2YX, "bilinear").float() / 255
        labels_DYX[sections] = sample(labels_DPP[sections], sources_2YX, "nearest").int()
    if rng.random() < config.grey:
        raw_DYX = change_grey(rng, raw_DYX, config)
    apply(raw_DYX, labels_DYX, defects, grid_2YX)
    return raw_DYX, labels_DYX


def flip(
    rng: np.random.Generator, raw_DPP: Tensor, labels_DPP: Tensor, probability: float
) -> tuple[Tensor, Tensor]:
    """Mirror z, y and x, and transpose y and x, each with that probability."""
    *mirrored, transposed = rng.random(4) < probability
    axes = [axis for axis, flipped in enumerate(mirrored) if flipped]
    raw_DPP, labels_DPP = raw_DPP.flip(axes), labels_DPP.flip(axes)
    return (raw_DPP.mT, labels_DPP.mT) if transposed else (raw_DPP, labels_DPP)


@dataclass(frozen=True, eq=False)
class Transform:
    """A map in the plane from target to source: ``source = matrix @ target + field``.

    Coordinates are y and x from the centre of the crop.

    Attributes:
        matrix: rotation and scaling, [2, 2] float64.
        field: displacement field [2, Y, X] float32; None for no elastic deformation.
    """

    matrix: Array
    field: Tensor | None

    def sources(self, targets_2YX: Tensor) -> Tensor:
        """Source coordinates, [2, Y, X] float64."""
        matrix = torch.from_numpy(self.matrix)
        sources_2YX = torch.einsum("ij,jyx->iyx", matrix, targets_2YX)
        return sources_2YX if self.field is None else sources_2YX + self.field


def draw_transform(rng: np.random.Generator, width: int, config: AugmentConfig) -> Transform:
    """A random transform."""
    angle = rng.uniform(0, 2 * math.pi) if rng.random() < config.rotate else 0.0
    by = config.rescale_by if rng.random() < config.rescale else 0.0
    elastic = rng.random() < config.elastic
    return Transform(
        rotation(angle) / (1 + rng.uniform(-by, by, 2)),
        displacement_field(rng, width, config.elastic_sigma, config.elastic_std)
        if elastic
        else None,
    )


def rotation(angle: float) -> Array:
    """The matrix of a rotation by `angle` radians, [2, 2]."""
    sin, cos = math.sin(angle), math.cos(angle)
    return np.array([[cos, -sin], [sin, cos]])


def displacement_field(rng: np.random.Generator, width: int, sigma: float, std: float) -> Tensor:
    """A smooth random field [2, width, width] of displacements along y and x, in pixels.

    White noise at points `sigma` pixels apart, smoothed with a Gaussian of `sigma` pixels. At
    every pixel the standard deviation is `std`; displacements are clipped at `CLIP` times that.
    """
    points = torch.arange(-3, math.ceil(width / sigma) + 4) * sigma
    noise_2PP = torch.from_numpy(rng.standard_normal((2, len(points), len(points)), np.float32))
    gaussians_YP = gaussians(torch.arange(width), points, sigma)
    gaussians_YP /= gaussians_YP.norm(dim=1, keepdim=True)  # unit variance at every pixel
    return (gaussians_YP @ noise_2PP @ gaussians_YP.T).clamp(-CLIP, CLIP) * std


def centred_grid(width: int) -> Tensor:
    """Coordinates y and x of a crop's pixels from its centre, [2, width, width] float64.

    In double precision a rotation by 90 degrees is exact.
    """
    along = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    return torch.stack(torch.meshgrid(along, along, indexing="ij"))


def sources_of(
    grid_2YX: Tensor, transform: Transform, defects: Defects
) -> Iterator[tuple[list[int], Tensor]]:
    """Groups of sections that share their source coordinates, and these, [2, Y, X]."""
    by_shift: dict[tuple[int, int], list[int]] = {}
    for z, (y, x) in enumerate(defects.shifts.tolist()):
        if z not in defects.folds:
            by_shift.setdefault((y, x), []).append(z)
    sources_2YX = transform.sources(grid_2YX)
    for shift, sections in by_shift.items():
        yield sections, sources_2YX + grid_2YX.new_tensor(shift)[:, None, None]
    for z, fold in defects.folds.items():
        shift_211 = grid_2YX.new_tensor(defects.shifts[z])[:, None, None]
        yield [z], transform.sources(fold.sources(grid_2YX)) + shift_211


def sample(image_DPP: Tensor, sources_2YX: Tensor, mode: str) -> Tensor:
    """Interpolate at source coordinates: float64 [D, Y, X], exact where these are whole pixels.

    Args:
        image_DPP: raw or labels.
        sources_2YX: y and x from the centre; none lies outside the image, up to rounding.
        mode: ``bilinear`` for raw, ``nearest`` for labels.
    """
    half = max((image_DPP.shape[1] - 1) / 2, 1)
    unit_1YX2 = sources_2YX.flip(0).movedim(0, -1)[None] / half  # -1 and 1: the outermost pixels
    return grid_sample(
        image_DPP[None].double(), unit_1YX2, mode, padding_mode="border", align_corners=True
    )[0]


def change_grey(rng: np.random.Generator, raw_DYX: Tensor, config: AugmentConfig) -> Tensor:
    """Change contrast, brightness and gamma, of the whole crop or of each section independently.

    With g in 0..1: ``clip(g * (1 + a) + b, 0, 1) ** 2**c``, where a, b, c are uniform between
    plus and minus contrast / 2, brightness / 2 and gamma.
    """
    sections = len(raw_DYX) if rng.random() < config.per_section else 1
    limits = np.array([[config.contrast / 2], [config.brightness / 2], [config.gamma]])
    offsets_3D11 = rng.uniform(-limits, limits, (3, sections))[..., None, None]
    a, b, c = torch.from_numpy(offsets_3D11.astype(np.float32))
    return raw_DYX.mul(1 + a).add_(b).clamp_(0, 1).pow_(2**c)
