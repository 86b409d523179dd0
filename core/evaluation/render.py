"""Overlays: segments in colour over the raw data, sections side by side.

A segment's colour is a hash of its id, the same in every picture; segment 0 is not coloured. Within
a section, borders between segments are dark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cadseg.agglomeration.hashing import splitmix64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cadseg.arrays import Array

OPACITY = 0.45
GAP = 4  # white voxels between sections
LINE = 0.35  # brightness of a voxel on a border between segments


def overlay(raw: Array, segmentation: Array, sections: Sequence[int]) -> Image.Image:
    """Raw with its segments in colour.

    Args:
        raw: [z, y, x] uint8.
        segmentation: [z, y, x] ids.
        sections: places along z to draw, left to right.
    """
    assert raw.shape == segmentation.shape, f"{raw.shape} against {segmentation.shape}"
    strips: list[Array] = []
    for z in sections:
        if strips:
            strips.append(np.full((raw.shape[1], GAP, 3), 255, np.uint8))
        strips.append(_section(raw[z], segmentation[z]))
    return Image.fromarray(np.concatenate(strips, axis=1))


def colours(ids: Array) -> Array:
    """[..., 3] 0..1: a saturated colour per id; grey for 0."""
    mixed = splitmix64(ids.astype(np.uint64))
    hue = (mixed >> np.uint64(40)).astype(np.float64) / 2**24 * 6
    value = 0.7 + 0.3 * (mixed & np.uint64(255)).astype(np.float64) / 255
    wheel = np.abs((hue[..., None] + np.array([0, 4, 2])) % 6 - 3) - 1
    return np.asarray(wheel.clip(0.1, 1) * value[..., None])


def _section(raw: Array, ids: Array) -> Array:
    """One section, [y, x] each, as [y, x, 3] uint8."""
    grey = np.repeat(raw[..., None] / 255, 3, axis=2)
    coloured = grey * (1 - OPACITY) + OPACITY * colours(ids)
    picture = np.where((ids != 0)[..., None], coloured, grey)
    picture[_borders(ids)] *= LINE
    drawn: Array = np.rint(picture * 255).astype(np.uint8)
    return drawn


def _borders(ids: Array) -> Array:
    """[y, x] bool: voxels whose right or lower neighbour in the section has another id."""
    found = np.zeros(ids.shape, np.bool_)
    found[:, :-1] |= ids[:, 1:] != ids[:, :-1]
    found[:-1] |= ids[1:] != ids[:-1]
    return found
