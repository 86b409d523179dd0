"""Arrays of random bytes, in the formats that a volume can have."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr

from cadseg.blocks import Roi, zyx

Array = np.ndarray[Any, Any]

KINDS = ["v2", "v3", "sharded"]


def grey(*shape: int, dtype: str = "uint8") -> Array:
    """Noise that no two boxes share."""
    return np.random.default_rng(0).integers(1, 255, shape).astype(dtype)


def whole(data: Array) -> Roi:
    return Roi((0, 0, 0), zyx(data.shape[-3:]))


def store_array(path: object, data: Array, kind: str, **options: Any) -> zarr.Array[Any]:
    """`data` as a Zarr array of 8 x 16 x 16 chunks."""
    lead = (1,) * (data.ndim - 3)
    layout: dict[str, Any] = {"v2": {"zarr_format": 2}, "v3": {}, "sharded": {}}[kind]
    if kind == "sharded":
        layout["shards"] = (*lead, 16, 32, 32)
    return zarr.create_array(store=path, data=data, chunks=(*lead, 8, 16, 16), **layout, **options)
