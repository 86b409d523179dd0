"""Volumes: arrays that can be read. The only file that opens zarr.

A volume has the axes z, y, x, or c, z, y, x: channels first. What a user hands in is a Zarr array
(format 2 or 3) or an OME-Zarr image (its full resolution), in a local folder or at any URL that
fsspec opens; further leading axes of length 1 are left out. It is read exactly: a box that leaves
the volume is our error, a missing chunk holds the fill value, a chunk that cannot be decoded is a
`VolumeError` that names it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
import zarr.errors
from zarr.abc.store import SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from cadseg.blocks import Roi, Zyx, zyx
from cadseg.errors import VolumeError
from cadseg.storage import damage, ome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zarr.abc.store import Store

    from cadseg.arrays import Array
    from cadseg.storage.ome import Geometry, Size

ACCEPTED = "a Zarr array or an OME-Zarr image, in a folder or at a URL"
LONGEST = 2**26
"""Voxels of an axis."""

MOST = 2**63
"""Voxels of a volume: ids are places in it, counted from 1, of 64 bits."""

END = 16
"""Last bytes of a file that are looked at: some checksums lie there."""


@dataclass(frozen=True, eq=False)
class Volume:
    """An array that can be read.

    Attributes:
        url: where it lies, as it was named; the start of every error about it.
        geometry: size of a voxel and place of the first corner; None where metadata says nothing.
    """

    url: str
    geometry: Geometry | None
    _array: zarr.Array[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x), or (c, z, y, x)."""
        return tuple(self._array.shape[self._dropped :])

    @property
    def extent(self) -> Zyx:
        """Voxels along z, y, x."""
        return zyx(self._array.shape[-3:])

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of what is compressed in one piece, over the same axes as `shape`."""
        return tuple(self._array.chunks[self._dropped :])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of what `read` returns."""
        return np.dtype(self._array.dtype).newbyteorder("=")

    @property
    def voxel_size_nm(self) -> Size | None:
        """Size of a voxel, z y x."""
        return None if self.geometry is None else self.geometry.voxel_size_nm

    @property
    def offset_nm(self) -> Size:
        """Place of the first corner in the world, z y x."""
        return ome.ORIGIN if self.geometry is None else self.geometry.offset_nm

    def read(self, roi: Roi) -> Array:
        """Voxels of `roi`, [z, y, x] or [c, z, y, x] with all channels.

        Raises:
            VolumeError: a chunk cannot be decoded.
        """
        assert Roi((0, 0, 0), self.extent).contains(roi), f"{roi} leaves {self.url}"
        lead = [0] * self._dropped + [slice(None)] * (len(self.shape) - 3)
        box = (*lead, *roi.slices())
        damage.check_emptied(self.url, self._array, box)
        try:
            data = np.asarray(self._array[box])
        except Exception as error:  # codecs and file systems each raise their own
            damage.check_decodable(self.url, self._array, box)
            reason = damage.reason(error)
            raise VolumeError(f"volume {self.url}: cannot read {roi} ({reason})") from error
        return np.ascontiguousarray(data, self.dtype)

    @property
    def fill_value(self) -> str:
        """Value of voxels whose chunk is missing."""
        return str(self._array.fill_value)

    @property
    def files(self) -> tuple[int, ...]:
        """Number of files along each axis of the array, those included that are left out."""
        lengths = self._array.shards or self._array.chunks
        return tuple(-(-n // m) for n, m in zip(self._array.shape, lengths, strict=True))

    def file_ends(self, places: Sequence[tuple[int, ...]]) -> list[tuple[int, str] | None]:
        """Of the files at these places of their grid, the size and the last bytes, as text.

        In the last bytes lie the checksums of gzip and crc32c, and that of a shard's index. None
        where there is no file.

        Raises:
            VolumeError: the store does not say.
        """
        try:
            return sync(self._file_ends(places))
        except Exception as error:  # stores raise their own
            reason = damage.reason(error)
            raise VolumeError(f"volume {self.url}: cannot look at its files ({reason})") from error

    async def _file_ends(self, places: Sequence[tuple[int, ...]]) -> list[tuple[int, str] | None]:
        store, encode = self._array.store, self._array.metadata.encode_chunk_key
        last = default_buffer_prototype(), SuffixByteRequest(END)

        async def end(place: tuple[int, ...]) -> tuple[int, str] | None:
            key = f"{self._array.path}/{encode(place)}".lstrip("/")
            try:
                size, found = await asyncio.gather(store.getsize(key), store.get(key, *last))
            except FileNotFoundError:
                return None
            return None if found is None else (size, found.to_bytes().hex())

        return list(await asyncio.gather(*map(end, places)))

    @property
    def _dropped(self) -> int:
        lead = self._array.shape[:-3]
        return len(lead) - len(list(itertools.dropwhile(lambda n: n == 1, lead)))


def open_volume(url: str) -> Volume:
    """The array at `url`, or the full resolution of the OME-Zarr image at `url`.

    Raises:
        VolumeError: nothing there, several arrays there, or an array that is no volume of numbers.
    """
    node = _node(url)
    geometry = None
    try:
        if isinstance(node, zarr.Group):
            node, geometry = _array_of(node, url)
        geometry = geometry or ome.of_array(node.attrs) or _from_parent(url)
    except ValueError as error:
        raise VolumeError(f"volume {url}: {error}") from None
    except Exception as error:  # metadata is whatever others wrote
        reason = damage.reason(error)
        raise VolumeError(f"volume {url}: its metadata is not understood ({reason})") from None
    volume = Volume(url, geometry, node)
    _check(volume, node)
    return volume


def _check(volume: Volume, node: zarr.Array[Any]) -> None:
    """Refuse an array that is no volume of numbers."""
    if not 3 <= len(node.shape) or len(volume.shape) > 4:
        problem = f"shape {node.shape}; accepted are the axes z, y, x, or channel, z, y, x"
    elif np.dtype(node.dtype).kind not in "buif":
        problem = f"type {node.dtype}; accepted are numbers"
    elif max(node.shape) > LONGEST or math.prod(node.shape[-3:]) > MOST:
        problem = (
            f"shape {node.shape}; accepted are axes of up to {LONGEST} voxels, and {MOST} voxels "
            "in all"
        )
    elif min((*node.chunks, *(node.shards or ()))) < 1:
        problem = f"chunks {node.chunks}; accepted are lengths above 0"
    else:
        return
    raise VolumeError(f"volume {volume.url}: has the {problem}")


def _node(url: str) -> zarr.Array[Any] | zarr.Group:
    try:
        return zarr.open(store=_store(url), mode="r")
    except FileNotFoundError:
        found = "there is a file, not a folder" if Path(url).is_file() else "there is no volume"
        raise VolumeError(f"volume {url}: {found}; accepted is {ACCEPTED}") from None
    except Exception as error:  # file systems raise their own
        raise VolumeError(f"volume {url}: cannot be opened ({damage.reason(error)})") from error


def _store(url: str) -> Store:
    if "://" in url:
        return FsspecStore.from_url(url, read_only=True)
    return LocalStore(url, read_only=True)


def _array_of(node: zarr.Group, url: str) -> tuple[zarr.Array[Any], Geometry | None]:
    """The array that a group stands for: its image's first level, or its only array."""
    image = ome.multiscale(node.attrs)
    if image is not None:
        level = image["datasets"][0]
        return _member(node, level["path"], url), ome.of_level(image, level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)  # other files beside arrays
        names = sorted(name for name, _ in node.arrays())
    if len(names) != 1:
        found = f"the arrays {', '.join(names)}" if names else "no array"
        hint = f"name one, as in {url.rstrip('/')}/{names[0]}" if names else ACCEPTED
        raise ValueError(f"is a group with {found}; accepted: {hint}")
    return _member(node, names[0], url), None


def _member(node: zarr.Group, name: str, url: str) -> zarr.Array[Any]:
    array = node.get(name)
    if not isinstance(array, zarr.Array):
        raise ValueError(f"its metadata names the array {name}, which is not in {url}")
    return array


def _from_parent(url: str) -> Geometry | None:
    """Geometry that an OME-Zarr image gives for one of its levels."""
    parent, _, name = url.rstrip("/").rpartition("/")
    try:
        above = _node(parent)
        image = ome.multiscale(above.attrs) if isinstance(above, zarr.Group) else None
    except VolumeError:
        return None
    if image is None:
        return None
    for level in image["datasets"]:
        if level["path"] == name:
            return ome.of_level(image, level)
    return None
