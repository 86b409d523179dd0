"""What a volume is, as plain data: equal for equal volumes, wherever they lie.

A *fingerprint* is found by looking at a part of the volume, however large that is: the voxels of up
to `SAMPLES` pieces, at places that follow from the volume's shape alone, and the ends of up to
`FILES` of its files. A volume of at most `SMALL` bytes is looked at whole. A change in a larger one
is seen where it is in such a piece, or where it makes such a file longer or shorter or changes a
checksum at its end. `content` is the hash of all voxels, and misses nothing.

A *piece* is a box of whole chunks, or, where a chunk has more than `PIECE` bytes, a part of one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.blocks import Roi, Zyx, zyx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cadseg.storage.volume import Volume

PIECE = 1 << 24
"""Bytes of a piece, at most."""

SMALL = 1 << 26
"""Bytes of a volume that is looked at whole, at most."""

SAMPLES = 256
FEWEST = 16
"""Pieces that a fingerprint reads: as many as hold `SAMPLED` bytes, within these limits."""

SAMPLED = 1 << 28
"""Bytes."""

FILES = 512
"""Files whose size and last bytes are looked at."""

THREADS = 8
"""That read and hash at the same time, at most: each takes some three pieces of memory."""


def fingerprint(volume: Volume) -> dict[str, Any]:
    """What can be seen of a volume without reading all of it."""
    size = volume.voxel_size_nm
    small = _bytes(volume.extent, volume) <= SMALL
    return {
        "shape": list(volume.shape),
        "dtype": str(volume.dtype),
        "chunks": list(volume.chunks),
        "fill_value": volume.fill_value,
        "voxel_size_nm": None if size is None else list(size),
        "samples": content(volume, lambda _: None) if small else _samples(volume),
        "files": None if small else _files(volume),
    }


def content(volume: Volume, advance: Callable[[int], None]) -> str:
    """Hash of all voxels.

    Args:
        volume: read once, piece by piece.
        advance: told after each piece how many voxels along z, y, x it has.
    """
    shape = _grown(_halved(_chunk(volume), volume), volume)
    cells = itertools.product(*map(range, _counts(volume.extent, shape)))
    return _hash(volume, (_box(cell, shape, volume.extent) for cell in cells), advance)


def _samples(volume: Volume) -> str:
    """Hash of some voxels."""
    shape = _halved(_chunk(volume), volume)
    counts = _counts(volume.extent, shape)
    number = min(SAMPLES, max(FEWEST, SAMPLED // _bytes(shape, volume)))
    boxes = (_box(cell, shape, volume.extent) for cell in _spread(counts, number))
    return _hash(volume, boxes, lambda _: None)


def _files(volume: Volume) -> str:
    """Hash of the sizes and the last bytes of some files."""
    ends = volume.file_ends(list(_spread(volume.files, FILES)))
    return hashlib.sha256(json.dumps(ends).encode()).hexdigest()


def _spread(counts: Sequence[int], number: int) -> Iterator[tuple[int, ...]]:
    """Up to so many cells of a grid, one in each of equal stretches of it, anywhere therein."""
    total = math.prod(counts)
    number = min(number, total)
    for i in range(number):
        begin, end = i * total // number, (i + 1) * total // number
        chance = hashlib.sha256(f"{list(counts)} {i}".encode()).digest()
        place = begin + int.from_bytes(chance[:8], "big") % (end - begin)
        yield tuple(int(n) for n in np.unravel_index(place, tuple(counts)))


def _hash(volume: Volume, boxes: Iterable[Roi], advance: Callable[[int], None]) -> str:
    """Hash of the hashes of boxes, in their order."""

    def hashed(box: Roi) -> tuple[int, bytes]:
        return box.size, hashlib.sha256(volume.read(box).data).digest()

    digest, boxes = hashlib.sha256(), iter(boxes)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
        while some := list(itertools.islice(boxes, SAMPLES)):
            for voxels, piece in threads.map(hashed, some):
                digest.update(piece)
                advance(voxels)
    return digest.hexdigest()


def _chunk(volume: Volume) -> Zyx:
    return zyx(min(n, c) for n, c in zip(volume.extent, volume.chunks[-3:], strict=True))


def _halved(shape: Zyx, volume: Volume) -> Zyx:
    """The shape, halved along its longest axis until it is a piece."""
    while _bytes(shape, volume) > PIECE and max(shape) > 1:
        axis = shape.index(max(shape))
        shape = zyx(-(-n // 2) if a == axis else n for a, n in enumerate(shape))
    return shape


def _grown(shape: Zyx, volume: Volume) -> Zyx:
    """The shape, doubled along its shortest axis as long as it is a piece."""
    while any(short := [n < whole for n, whole in zip(shape, volume.extent, strict=True)]):
        axis = min((n, a) for a, n in enumerate(shape) if short[a])[1]
        more = zyx(2 * n if a == axis else n for a, n in enumerate(shape))
        if _bytes(more, volume) > PIECE:
            break
        shape = more
    return shape


def _bytes(shape: Zyx, volume: Volume) -> int:
    return math.prod((*volume.shape[:-3], *shape)) * volume.dtype.itemsize


def _counts(extent: Zyx, shape: Zyx) -> Zyx:
    return zyx(-(-n // s) for n, s in zip(extent, shape, strict=True))


def _box(cell: tuple[int, ...], shape: Zyx, extent: Zyx) -> Roi:
    begin = zyx(i * n for i, n in zip(cell, shape, strict=True))
    end = zyx(min(b + n, e) for b, n, e in zip(begin, shape, extent, strict=True))
    return Roi(begin, end)
