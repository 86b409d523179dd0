"""Augmentation that changes nothing: what tests start from."""

from __future__ import annotations

from cadseg.models.training.augment import AugmentConfig
from cadseg.models.training.defects import DefectsConfig

SOUND = DefectsConfig(
    most=2,
    missing=0,
    dark=0,
    dark_strength=0.9,
    blurred=0,
    blur_sigma=2,
    slipped=0,
    slip=5,
    drifted=0,
    drift=3,
    folded=0,
    fold=6,
    fold_width=4,
    fold_strength=0.9,
)
NOTHING = AugmentConfig(
    flip=0,
    rotate=0,
    rescale=0,
    rescale_by=0.2,
    elastic=0,
    elastic_sigma=4,
    elastic_std=1,
    grey=0,
    per_section=0,
    contrast=0.3,
    brightness=0.3,
    gamma=1,
    defects=SOUND,
)
