"""The arrays that a run writes: one Zarr 3 group, an array per stage.

One shard, one object, one block: a write replaces whole objects and reads nothing. A shard of which
all voxels are 0 is no object.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Roi, Zyx, zyx
from cadseg.storage import damage, group, ome, shards
from cadseg.storage.shards import Layout

if TYPE_CHECKING:
    from cadseg.arrays import Array
    from cadseg.storage.files import Files
    from cadseg.storage.ome import Size


@dataclass(frozen=True, eq=False)
class OutputArray:
    """An array of a run: read box by box, written by whole shards."""

    files: Files
    name: str
    layout: Layout

    def read(self, roi: Roi) -> Array:
        """Voxels of `roi`; leading axes come whole.

        Raises:
            VolumeError: a chunk cannot be decoded.
        """
        shape, shard = self.layout.shape, zyx(self.layout.shard[-3:])
        lead = [slice(0, n) for n in shape[:-3]]
        out = np.empty((*shape[:-3], *roi.shape), self.layout.dtype)
        for cell, voxels in shards.touched(roi, shard):
            box = (*lead, *voxels.slices(zyx(c * n for c, n in zip(cell, shard, strict=True))))
            self._read(cell, box, out[(..., *voxels.slices(roi.begin))])
        return out

    def write(self, cover: Roi, data: Array, names: Array | None = None) -> int:
        """Replace the shards that make up `cover`, each as one object; returns their checksum.

        Args:
            cover: whole shards, clipped to the volume.
            data: all voxels of `cover`, in the array's own type; or numbers of what they are.
            names: by number, what is written; 0 for 0.
        """
        checksum = 0
        lead = self.layout.shape[:-3]
        dtype = (data if names is None else names).dtype
        assert dtype == self.layout.dtype, f"{self.name}: {dtype} is not {self.layout.dtype}"
        assert data.shape == (*lead, *cover.shape), f"{self.name}: {data.shape} at {cover}"
        for cell, voxels in shards.cells(
            cover, zyx(self.layout.shard[-3:]), zyx(self.layout.shape[-3:])
        ):
            part = data[(..., *voxels.slices(cover.begin))]
            content = shards.encode(part, self.layout.inner, self.layout.shard, names)
            checksum = zlib.crc32(content, checksum)
            if content:
                self.files.write(self._key(cell), content)
            else:
                self.files.remove(self._key(cell))
        return checksum

    def _read(self, cell: Zyx, box: tuple[slice, ...], out: Array) -> None:
        inner, shard = self.layout.inner, self.layout.shard
        try:
            read = functools.partial(self.files.read_ranges, self._key(cell))
            shards.decode(read, box, out, inner, shard)
        except FileNotFoundError:
            out[...] = 0
        except shards.DamagedError as error:
            begin = [*([0] * (len(shard) - 3)), *cell]
            grid = zip(begin, shard, inner, error.cell, strict=True)
            chunk = tuple(b * s // i + c for b, s, i, c in grid)
            where, key = f"{self.files.url}/{self.name}", self._key(cell)
            key = key.removeprefix(f"{self.name}/")
            raise damage.undecodable(where, chunk, key, str(error)) from error

    def _key(self, cell: Zyx) -> str:
        lead = len(self.layout.shard) - 3
        return "/".join([self.name, "c", *("0" * lead), *map(str, cell)])


def create_output(
    files: Files,
    name: str,
    *,
    lead: tuple[int, ...] = (),
    shape: Zyx,
    dtype: str,
    shard: Zyx,
    voxel_size_nm: Size | None = None,
    offset_nm: Size = ome.ORIGIN,
) -> OutputArray:
    """Make the array `name`, all 0, in a run's group; keep one of the same layout that is there.

    Args:
        files: of the run.
        name: of the array; may be nested, as in ``segmentation/0``.
        lead: lengths of the axes before z, y, x.
        shape: voxels along z, y, x.
        dtype: numpy's name of the type.
        shard: shape of the blocks that will be written, in voxels; clipped to the volume.
        voxel_size_nm: of this array, z y x; None where it is not known.
        offset_nm: place of the first corner in the world, z y x.

    Raises:
        OutputError: an array of another layout is there.
    """
    clipped = zyx(min(n, whole) for n, whole in zip(shard, shape, strict=True))
    metadata = shards.array_metadata(
        lead,
        shape,
        dtype,
        clipped,
        ome.array_attributes(voxel_size_nm, offset_nm, len(lead)),
    )
    group.add_array(files, name, metadata)
    return open_output(files, name)


def open_output(files: Files, name: str) -> OutputArray:
    """The array `name` of a run's group, made by `create_output`."""
    return OutputArray(files, name, Layout.of(group.metadata(files, name)))
