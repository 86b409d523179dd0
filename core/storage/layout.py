"""How an array of a run is cut into shards and inner chunks, and packed; as Zarr's metadata says.

A shard is one object, a whole block, made of inner chunks that are compressed one by one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.blocks import Roi, Zyx, zyx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Inner chunks: the smallest box that a viewer reads, near 256 kB of affinities.
TARGET: Zyx = (16, 128, 128)

# Measured on one core with such chunks (write MB/s, ratio, read MB/s):
#   affinities (published student, SNEMI3D): zstd 1: 217, 1.7, 664; bit-shuffled: 296, 1.7, 594;
#     lz4: 803, 1.3, 2142.
#   u64 labels: zstd 1: 1202, 53, 1854; byte-shuffled: 1144, 55, 1497; lz4: 4891, 23, 6463.
#   u32 numbers of a block: zstd 1: 936, 47, 1416; lz4: 2954, 15, 4703.
# Affinities take most of a run's disk: zstd. Ids pack well in any case, and a run reads and writes
# them again and again: lz4, 0.3 bytes per voxel where zstd takes 0.15.
CODECS = {1: "zstd"}  # by bytes per voxel
CODEC, LEVEL = "lz4", 1

_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


@dataclass(frozen=True)
class Layout:
    """Shapes of an array of shards, and of their inner chunks; the type of its elements."""

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    inner: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Layout:
        """The layout that `array_metadata` has described."""
        (sharding,) = metadata["codecs"]
        return cls(
            shape=tuple(metadata["shape"]),
            shard=tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]),
            inner=tuple(sharding["configuration"]["chunk_shape"]),
            dtype=np.dtype(metadata["data_type"]),
        )


def inner_shape(shard: Zyx) -> Zyx:
    """Voxels per inner chunk: per axis the largest divisor of the shard's length up to TARGET.

    An axis without a divisor of at least 8 (a prime, say) is not cut.
    """
    return zyx(_inner_length(n, target) for n, target in zip(shard, TARGET, strict=True))


def array_metadata(
    lead: tuple[int, ...],
    shape: Zyx,
    dtype: str,
    shard: Zyx,
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """Content of ``zarr.json`` for an array of such shards; leading axes lie whole in each."""
    itemsize = np.dtype(dtype).itemsize
    pack = {
        "cname": CODECS.get(itemsize, CODEC),
        "clevel": LEVEL,
        "shuffle": "noshuffle",
        "blocksize": 0,
    }
    crc = {"name": "crc32c"}
    sharding = {
        "chunk_shape": [1] * len(lead) + list(inner_shape(shard)),
        "codecs": [
            _BYTES,
            {"name": "blosc", "configuration": {"typesize": itemsize, **pack}},
            crc,
        ],
        "index_codecs": [_BYTES, crc],
        "index_location": "end",
    }
    grid = {"chunk_shape": [*lead, *shard]}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [*lead, *shape],
        "data_type": np.dtype(dtype).name,
        "chunk_grid": {"name": "regular", "configuration": grid},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ["c"] * len(lead) + ["z", "y", "x"],
        "attributes": dict(attributes),
    }


def cells(cover: Roi, shard: Zyx, extent: Zyx) -> Iterator[tuple[Zyx, Roi]]:
    """The shards that make up `cover`: place in the array's grid, and the voxels of each.

    Args:
        cover: whole shards, clipped to the array.
        shard: voxels per shard.
        extent: voxels of the array.
    """
    for b, e, n, end in zip(cover.begin, cover.end, shard, extent, strict=True):
        assert b % n == 0, f"{cover} cuts shards of {shard}"
        assert e % n == 0 or e == end, f"{cover} cuts shards of {shard}"
    return touched(cover, shard)


def touched(roi: Roi, shard: Zyx) -> Iterator[tuple[Zyx, Roi]]:
    """The shards that `roi` meets: place in the array's grid, and the voxels of each in `roi`."""
    spans = (range(b // n, -(-e // n)) for b, e, n in zip(roi.begin, roi.end, shard, strict=True))
    for cell in itertools.product(*spans):
        begin = zyx(c * n for c, n in zip(cell, shard, strict=True))
        yield zyx(cell), Roi(begin, begin).grown((0, 0, 0), shard).clipped(roi)


def _inner_length(length: int, target: int) -> int:
    best = max(d for d in range(1, min(length, target) + 1) if length % d == 0)
    return best if best >= min(8, target) else length
