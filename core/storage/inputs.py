"""What can be segmented: checks before a run starts, and grey values and affinities as bytes.

Every conversion is a function of one voxel and of the config, never of the block around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.errors import ConfigError, VolumeError

if TYPE_CHECKING:
    from cadseg.arrays import Array
    from cadseg.blocks import Roi
    from cadseg.config import Config
    from cadseg.storage.volume import Volume

GreyRange = tuple[int, int]

UINT16_MAX = 65535


def check_raw(raw: Volume, config: Config) -> None:
    """Refuse a volume that the network cannot look at.

    Raises:
        VolumeError: not z, y, x, or neither uint8 nor uint16.
        ConfigError: `volume.grey_range` is missing, not needed, or not a range.
    """
    if len(raw.shape) != 3:
        raise VolumeError(f"volume {raw.url}: has the shape {raw.shape}; raw must be z, y, x")
    if raw.dtype not in (np.uint8, np.uint16):
        raise VolumeError(
            f"volume {raw.url}: has the type {raw.dtype}; raw must be uint8 or uint16, so "
            "convert it with one grey range for the whole volume"
        )
    _check_grey_range(raw, config.volume.grey_range)


def check_affinities(affinities: Volume) -> None:
    """Refuse an array that is not affinities to the lower neighbours along z, y, x.

    Raises:
        VolumeError: not [3, z, y, x], or neither uint8 nor floats.
    """
    if len(affinities.shape) != 4 or affinities.shape[0] != 3:
        raise VolumeError(
            f"volume {affinities.url}: has the shape {affinities.shape}; affinities must be "
            "3, z, y, x: one channel per axis, to the lower neighbour along z, y, x"
        )
    if affinities.dtype != np.uint8 and affinities.dtype.kind != "f":
        raise VolumeError(
            f"volume {affinities.url}: has the type {affinities.dtype}; affinities must be uint8 "
            "(255 is certain) or floats in 0..1"
        )


def check_mask(mask: Volume, raw: Volume) -> None:
    """Refuse a mask that does not cover the volume voxel by voxel.

    Raises:
        VolumeError: another shape, or floats.
    """
    if mask.shape != raw.extent:
        raise VolumeError(
            f"mask {mask.url}: has the shape {mask.shape}; the volume has {raw.extent}, and a mask "
            "must have the same"
        )
    if mask.dtype.kind not in "bui":
        raise VolumeError(f"mask {mask.url}: has the type {mask.dtype}; a mask must be integers")


def as_uint8(raw: Array, grey_range: GreyRange | None) -> Array:
    """Grey values as bytes: uint8 as it is, uint16 by the volume's range, rounded half to even.

    Args:
        raw: uint8, or uint16.
        grey_range: uint16 values that become 0 and 255; beyond them values are clipped.
    """
    if raw.dtype == np.uint8:
        return raw
    assert raw.dtype == np.uint16, f"raw is {raw.dtype}"
    assert grey_range is not None, "uint16 raw without a grey range"
    low, high = grey_range
    # Exact: products stay far below 2**53, and a quotient that is no half is 2**-17 away from one.
    grey = (np.arange(UINT16_MAX + 1) - low) * 255 / (high - low)
    table: Array = np.rint(grey).clip(0, 255).astype(np.uint8)
    return table[raw]


def read_affinities(affinities: Volume, roi: Roi) -> Array:
    """Affinities of `roi` as integers, [3, z, y, x]; floats as bytes, rounded half to even.

    Raises:
        VolumeError: a float is not a number, or not in 0..1.
    """
    data = affinities.read(roi)
    if data.dtype.kind == "u":
        return data
    bad = ~((data >= 0) & (data <= 1))  # true for NaN
    if bad.any():
        c, z, y, x = (int(i) for i in np.argwhere(bad)[0])
        place = (c, z + roi.begin[0], y + roi.begin[1], x + roi.begin[2])
        raise VolumeError(
            f"volume {affinities.url}: is {data[c, z, y, x]} at {place}; "
            "affinities must lie in 0..1"
        )
    return np.rint(data.astype(np.float64) * 255).astype(np.uint8)


def _check_grey_range(raw: Volume, grey_range: GreyRange | None) -> None:
    if raw.dtype == np.uint8:
        if grey_range is not None:
            raise ConfigError(
                f"volume.grey_range is {list(grey_range)}, but {raw.url} is uint8, which needs "
                "none; accepted is null"
            )
        return
    if grey_range is None:
        raise ConfigError(
            f"volume.grey_range is null, but {raw.url} is uint16; accepted are two grey values, "
            "for the whole volume, that become 0 and 255"
        )
    low, high = grey_range
    if not 0 <= low < high <= UINT16_MAX:
        raise ConfigError(
            f"volume.grey_range is {list(grey_range)}; accepted are two values in "
            f"0..{UINT16_MAX}, the lower one first"
        )
