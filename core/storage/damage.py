"""Which file of an array is damaged: found chunk by chunk, once reading has failed.

An array is anything with zarr's attributes; zarr itself is not opened here.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from cadseg.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator

Selection = tuple[int | slice, ...]


def check_emptied(url: str, array: Any, box: Selection) -> None:
    """Refuse shards of no length under `box`: zarr (3.1) reads them as missing, so as fill value.

    Only local files are looked at; object stores write whole objects.
    """
    root = getattr(array.store, "root", None)
    if array.shards is None or root is None:
        return
    for cell in _cells(box, array.shape, array.shards):
        key = array.metadata.encode_chunk_key(cell)
        path = root / array.path / key
        if path.is_file() and path.stat().st_size == 0:
            raise undecodable(url, cell, key, "it is empty")


def check_decodable(url: str, array: Any, box: Selection) -> None:
    """Read `box` chunk by chunk, and name the first chunk that fails."""
    files = array.shards or array.chunks
    for cell in _cells(box, array.shape, array.chunks):
        begin = [i * c for i, c in zip(cell, array.chunks, strict=True)]
        try:
            array[tuple(slice(b, b + c) for b, c in zip(begin, array.chunks, strict=True))]
        except Exception as error:  # codecs and file systems each raise their own
            file = tuple(b // f for b, f in zip(begin, files, strict=True))
            key = array.metadata.encode_chunk_key(file)
            raise undecodable(url, cell, key, reason(error)) from error


def reason(error: Exception) -> str:
    """An error of a library, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def undecodable(url: str, cell: tuple[int, ...], key: str, why: str) -> VolumeError:
    """The error about one chunk: its place among all chunks, and the file that it lies in."""
    return VolumeError(
        f"volume {url}: chunk {cell} in file {key} cannot be decoded ({why}); "
        "restore that file from a copy"
    )


def _cells(
    box: Selection, shape: tuple[int, ...], cell_shape: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    """Places, in a grid of such cells, of those that meet `box`."""
    ranges = []
    for place, length, n in zip(box, shape, cell_shape, strict=True):
        span = slice(place, place + 1) if isinstance(place, int) else place
        begin, end, _ = span.indices(length)
        ranges.append(range(begin // n, -(-end // n)))
    return itertools.product(*ranges)
