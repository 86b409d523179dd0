"""Random changes to a training crop that leave its meaning as it is.

A crop is raw uint8 and labels int32, ``[D, P, P]``. It comes in with a margin around the wanted
width, so that whatever the rotation, every pixel of the result was seen: no black corners. Changes
in the plane are the same for all sections, those of `cadseg.models.training.defects` apart; they
look up raw (linear) and labels (nearest) at the same places, once, however many changes there are.
All that is random comes from an explicit numpy generator, and pixels are changed on the CPU: the
same generator gives the same crop, whatever it is learned from on.

The kinds of change but the defects, and the numbers for grey values, are those of CAD (Liu et al.,
CVPR 2024).

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

from cadseg.config import Strict, Unit
from cadseg.models.training.defects import Amount, Defects, DefectsConfig, bells, drawn, spoil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

STEEP = 3  # displacements beyond so many standard deviations are cut off


class AugmentConfig(Strict):
    """How much to change, and how often; a share is one of crops.

    Attributes:
        flip: share mirrored, separately along z, along y, along x, and transposed in the plane.
        rotate: share rotated in the plane, by any angle.
        rescale: share stretched, along y and x apart.
        rescale_by: by a factor between 1 minus and 1 plus this.
        elastic: share bent by a smooth displacement field.
        elastic_sigma: smoothness of that field, in pixels.
        elastic_std: standard deviation of its displacements, in pixels.
        grey: share with changed grey values.
        per_section: share of those whose sections change independently.
        contrast: the contrast changes by a factor of at most 1 + contrast / 2.
        brightness: at most brightness / 2 is added, grey values being 0..1.
        gamma: the exponent lies between 2 ** -gamma and 2 ** gamma.
        defects: of single sections.
    """

    flip: Unit
    rotate: Unit
    rescale: Unit
    rescale_by: Annotated[float, Field(ge=0, lt=1)]
    elastic: Unit
    elastic_sigma: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    elastic_std: Amount
    grey: Unit
    per_section: Unit
    contrast: Amount
    brightness: Amount
    gamma: Amount
    defects: DefectsConfig


def margin(config: AugmentConfig, width: int) -> int:
    """Pixels that a crop needs on every side of the `width` that is left in the end."""
    reach = width / 2 + config.defects.pull
    reach /= 1 - config.rescale_by * (config.rescale > 0)
    reach *= math.sqrt(2) if config.rotate else 1
    reach += STEEP * config.elastic_std * (config.elastic > 0) + config.defects.farthest
    return math.ceil(reach - width / 2)


def augment(
    rng: np.random.Generator,
    raw_DPP: Tensor,
    labels_DPP: Tensor,
    *,
    width: int,
    config: AugmentConfig,
) -> tuple[Tensor, Tensor]:
    """A changed crop without its margin: raw float32, 0..1, and labels int32, [D, width, width].

    Args:
        rng: drawn from; decides everything.
        raw_DPP: grey values, uint8, `width` + 2 `margin` pixels wide.
        labels_DPP: int32, of the same shape.
        width: of the result, in pixels.
        config: how much, how often.
    """
    depth, *sides = raw_DPP.shape
    assert sides == [width + 2 * margin(config, width)] * 2, f"a margin is missing: {sides}"
    raw_DPP, labels_DPP = flip(rng, raw_DPP, labels_DPP, config.flip)
    plane = plane_of(rng, width, config)
    defects = drawn(rng, depth, width, config.defects)
    places_2YX = centred(width)
    raw_DYX = torch.empty((depth, width, width))
    labels_DYX = torch.empty((depth, width, width), dtype=torch.int32)
    for sections, sources_2YX in sources_of(places_2YX, plane, defects):
        raw_DYX[sections] = look_up(raw_DPP[sections], sources_2YX, "bilinear").float() / 255
        labels_DYX[sections] = look_up(labels_DPP[sections], sources_2YX, "nearest").int()
    if rng.random() < config.grey:
        raw_DYX = change_grey(rng, raw_DYX, config)
    spoil(raw_DYX, labels_DYX, defects, places_2YX)
    return raw_DYX, labels_DYX


def flip(
    rng: np.random.Generator, raw_DPP: Tensor, labels_DPP: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Mirror z, y and x, and transpose y and x, each in `share` of all cases."""
    *mirrored, transposed = rng.random(4) < share
    axes = [axis for axis, turned in enumerate(mirrored) if turned]
    raw_DPP, labels_DPP = raw_DPP.flip(axes), labels_DPP.flip(axes)
    return (raw_DPP.mT, labels_DPP.mT) if transposed else (raw_DPP, labels_DPP)


@dataclass(frozen=True, eq=False)
class Plane:
    """Where pixels come from, in the plane: ``source = turn @ place + field``, from the centre.

    Attributes:
        turn: rotation and stretching, [2, 2] float64.
        field: smooth displacements [2, Y, X] float32; None where there are none.
    """

    turn: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    field: Tensor | None

    def sources(self, places_2YX: Tensor) -> Tensor:
        """Sources of places, [2, Y, X] float64."""
        turn = torch.from_numpy(self.turn)
        sources_2YX = torch.einsum("ij,jyx->iyx", turn, places_2YX)
        return sources_2YX if self.field is None else sources_2YX + self.field


def plane_of(rng: np.random.Generator, width: int, config: AugmentConfig) -> Plane:
    """A random change in the plane."""
    angle = rng.uniform(0, 2 * math.pi) if rng.random() < config.rotate else 0.0
    by = config.rescale_by if rng.random() < config.rescale else 0.0
    bent = rng.random() < config.elastic
    return Plane(
        turned(angle) / (1 + rng.uniform(-by, by, 2)),
        displacement(rng, width, config.elastic_sigma, config.elastic_std) if bent else None,
    )


def turned(angle: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The rotation by `angle` radians, [2, 2]."""
    sin, cos = math.sin(angle), math.cos(angle)
    return np.array([[cos, -sin], [sin, cos]])


def displacement(rng: np.random.Generator, width: int, sigma: float, std: float) -> Tensor:
    """A smooth random field [2, width, width] of displacements along y and x, in pixels.

    White noise on points `sigma` pixels apart, smoothed with a Gaussian of `sigma` pixels. At
    every pixel the standard deviation is `std`; no displacement exceeds `STEEP` times that.
    """
    points = torch.arange(-3, math.ceil(width / sigma) + 4) * sigma
    noise_2PP = torch.from_numpy(rng.standard_normal((2, len(points), len(points)), np.float32))
    bells_YP = bells(torch.arange(width), points, sigma)
    bells_YP /= bells_YP.norm(dim=1, keepdim=True)  # so that variances of 1 add up to 1
    return (bells_YP @ noise_2PP @ bells_YP.T).clamp(-STEEP, STEEP) * std


def centred(width: int) -> Tensor:
    """Pixels of a crop as y and x from its centre, [2, width, width] float64.

    In double precision a quarter turn is exact.
    """
    along = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    return torch.stack(torch.meshgrid(along, along, indexing="ij"))


def sources_of(
    places_2YX: Tensor, plane: Plane, defects: Defects
) -> Iterator[tuple[list[int], Tensor]]:
    """Sections that come from the same pixels, with these: y and x from the centre, [2, Y, X]."""
    together: dict[tuple[int, int], list[int]] = {}
    for z, (y, x) in enumerate(defects.shifts.tolist()):
        if z not in defects.folds:
            together.setdefault((y, x), []).append(z)
    sources_2YX = plane.sources(places_2YX)
    for shift, sections in together.items():
        yield sections, sources_2YX + places_2YX.new_tensor(shift)[:, None, None]
    for z, fold in defects.folds.items():
        shift_211 = places_2YX.new_tensor(defects.shifts[z])[:, None, None]
        yield [z], plane.sources(fold.moved(places_2YX)) + shift_211


def look_up(image_DPP: Tensor, sources_2YX: Tensor, mode: str) -> Tensor:
    """What lies at y and x from the centre: float64 [D, Y, X], in double precision exact on pixels.

    Args:
        image_DPP: raw or labels.
        sources_2YX: where to look; nothing lies outside, so that only rounding is clipped.
        mode: ``bilinear``, or ``nearest`` for labels, which are never mixed.
    """
    half = max((image_DPP.shape[1] - 1) / 2, 1)
    grid_1YX2 = sources_2YX.flip(0).movedim(0, -1)[None] / half  # -1 and 1: the outermost pixels
    return grid_sample(
        image_DPP[None].double(), grid_1YX2, mode, padding_mode="border", align_corners=True
    )[0]


def change_grey(rng: np.random.Generator, raw_DYX: Tensor, config: AugmentConfig) -> Tensor:
    """Change contrast, brightness and gamma, of the crop or of each section by itself.

    With g in 0..1: ``clip(g * (1 + a) + b, 0, 1) ** 2**c``, where a, b, c are uniform between
    plus and minus contrast / 2, brightness / 2 and gamma.
    """
    sections = len(raw_DYX) if rng.random() < config.per_section else 1
    limits = np.array([[config.contrast / 2], [config.brightness / 2], [config.gamma]])
    drawn_3D11 = rng.uniform(-limits, limits, (3, sections))[..., None, None]
    a, b, c = torch.from_numpy(drawn_3D11.astype(np.float32))
    return raw_DYX.mul(1 + a).add_(b).clamp_(0, 1).pow_(2**c)
