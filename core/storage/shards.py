"""The bytes of one shard, written and read.

`encode` builds a shard from its voxels alone, following Zarr's ``sharding_indexed`` codec
(index at the end). zarr's own writer reads the old shard before it replaces all of it (3.1), which
costs time and fails where the old shard is broken. `decode` is its inverse, because a run reads its
own arrays several times over, and zarr takes five to nine times as long.

Every inner chunk ends with its CRC-32C, 4 bytes. Between the last chunk and Zarr's index, where
other readers look at nothing, a shard repeats those of all its chunks (0 for one that is all 0).
They and the index are the shard's *tail*: its checksum covers all that the shard holds, and a
reader of some chunks needs the tail and these chunks. Where the bytes lie is not known here.
"""

from __future__ import annotations

import itertools
import math
import struct
from typing import TYPE_CHECKING

import numpy as np
from numcodecs import blosc

from cadseg.storage import damage
from cadseg.storage.checksums import ABSENT, Written, checksum
from cadseg.storage.layout import CODEC, CODECS, LEVEL, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cadseg.arrays import Array

    Ranges = Callable[[Sequence[tuple[int, int]]], Iterator[bytes]]

# A worker is one thread; and with several, the bytes would depend on which of them ends first.
blosc.use_threads = False

_EMPTY = 2**64 - 1  # index entry of an inner chunk that is all 0


def encode(
    data: Array,
    inner: Sequence[int],
    shard: Sequence[int],
    names: Array | None = None,
) -> tuple[bytes, Written]:
    """The bytes of one shard whose voxels are `data`, and what they are; none where all are 0.

    Args:
        data: the shard's voxels that lie in the volume; at the volume's upper border fewer than
            `shard`.
        inner: shape of an inner chunk.
        shard: shape of a shard, a multiple of `inner` per axis.
        names: what to write for each number in `data`, 0 for 0; None to write `data` as it is.
    """
    counts = tuple(s // i for s, i in zip(shard, inner, strict=True))
    index = np.full((*counts, 2), _EMPTY, "<u8")
    sums = np.zeros(counts, "<u4")
    parts: list[bytes] = []
    offset = 0
    for cell in np.ndindex(*counts):
        box = tuple(slice(c * i, (c + 1) * i) for c, i in zip(cell, inner, strict=True))
        part = data[box]
        if part.any():
            if names is not None:
                part = names[part]  # while the chunk is in the processor's cache
            chunk = _compress(_padded(part, inner))
            sums[cell] = checksum(chunk)
            parts += [chunk, sums[cell].tobytes()]
            index[cell] = offset, len(chunk) + 4
            offset += len(chunk) + 4
    if not parts:
        return b"", ABSENT
    places = index.tobytes()
    tail = sums.tobytes() + places + struct.pack("<I", checksum(places))
    return b"".join([*parts, tail]), Written(offset + len(tail), checksum(tail))


def decode(
    read: Ranges,
    box: Sequence[slice],
    out: Array,
    layout: Layout,
    written: Written | None = None,
) -> None:
    """Put the voxels `box` of one shard into `out`.

    Args:
        read: parts of the shard's bytes, by begin and length, as `Files.read_ranges`.
        box: in the shard, as many voxels per axis as `out` has.
        out: of the array's type.
        layout: of the array.
        written: what the shard must be; None to believe its own tail.

    Raises:
        ValueError: the shard is not that; what was found.
        FileNotFoundError: there is no shard.
    """
    spans = [range(s.start // n, -(-s.stop // n)) for s, n in zip(box, layout.inner, strict=True)]
    cells = list(itertools.product(*spans))
    places, sums = _tail(read, layout, written)
    chunks = iter(read([_place(places[cell]) for cell in cells if places[cell][0] != _EMPTY]))
    for cell in cells:
        source, target = _overlap(box, cell, layout.inner)
        if places[cell][0] == _EMPTY:
            out[target] = 0
            continue
        content = next(chunks)
        _check_chunk(content, sums, cell)
        chunk = np.frombuffer(_unpacked(content[:-4]), out.dtype.newbyteorder("<"))
        out[target] = chunk.reshape(layout.inner)[source]


def check(read: Ranges, layout: Layout, written: Written) -> None:
    """Read all of a shard, a chunk at a time.

    Raises:
        ValueError: it is not what was written; what was found.
        FileNotFoundError: there is no shard.
    """
    places, sums = _tail(read, layout, written)
    cells = [cell for cell in np.ndindex(sums.shape) if places[cell][0] != _EMPTY]
    contents = read([_place(places[cell]) for cell in cells])
    for cell, content in zip(cells, contents, strict=True):
        _check_chunk(content, sums, cell)


def _check_chunk(content: bytes, sums: Array, cell: tuple[int, ...]) -> None:
    if content[-4:] != sums[cell].tobytes() or checksum(content[:-4]) != sums[cell]:
        raise ValueError(f"it was changed, in chunk {cell}")


def _place(entry: Array) -> tuple[int, int]:
    """Begin and length of an inner chunk, by its entry in the index."""
    return int(entry[0]), int(entry[1])


def _tail(read: Ranges, layout: Layout, written: Written | None) -> tuple[Array, Array]:
    """The index [*chunks, 2] of a shard, and the checksums [*chunks] of its chunks."""
    counts = [s // i for s, i in zip(layout.shard, layout.inner, strict=True)]
    chunks = math.prod(counts)
    (tail,) = read([(-20 * chunks - 4, 20 * chunks + 4)])
    if len(tail) != 20 * chunks + 4:
        raise ValueError("it is too short")
    if written is not None and checksum(tail) != written.checksum:
        raise ValueError("it is not what its block wrote")
    sums, index = tail[: 4 * chunks], tail[4 * chunks : -4]
    if struct.pack("<I", checksum(index)) != tail[-4:]:
        raise ValueError("it was changed, in its index")
    places = np.frombuffer(index, "<u8").reshape(*counts, 2)
    return places, np.frombuffer(sums, "<u4").reshape(counts)


def _unpacked(content: bytes) -> bytes:
    try:
        return bytes(blosc.decompress(content))
    except Exception as error:  # the codec raises its own
        raise ValueError(damage.reason(error)) from None


def _overlap(
    box: Sequence[slice], cell: Sequence[int], inner: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What `box` has of an inner chunk: its place in the chunk, and in the box."""
    source, target = [], []
    for s, c, n in zip(box, cell, inner, strict=True):
        low, high = max(s.start, c * n), min(s.stop, c * n + n)
        source.append(slice(low - c * n, high - c * n))
        target.append(slice(low - s.start, high - s.start))
    return tuple(source), tuple(target)


def _padded(part: Array, inner: Sequence[int]) -> Array:
    if part.shape == tuple(inner):
        return np.ascontiguousarray(part)
    whole = np.zeros(inner, part.dtype)
    whole[tuple(slice(n) for n in part.shape)] = part
    return whole


def _compress(chunk: Array) -> bytes:
    little = chunk.astype(chunk.dtype.newbyteorder("<"), copy=False)
    assert little.nbytes == math.prod(chunk.shape) * chunk.itemsize
    codec = CODECS.get(chunk.itemsize, CODEC)
    packed = blosc.compress(
        little, codec.encode(), LEVEL, blosc.NOSHUFFLE, blosc.AUTOBLOCKS, chunk.itemsize
    )
    return bytes(packed)
