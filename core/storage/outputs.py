"""The arrays that a run writes: one Zarr 3 group, an array per stage.

One shard, one object, one block: a write replaces whole objects and reads nothing. A shard of which
all voxels are 0 is no object; that it is all 0, and not lost, is said by the record of its block.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Roi, Zyx, zyx
from cadseg.storage import group, layout, ome, shards
from cadseg.storage.checksums import ABSENT, DamagedError, Written
from cadseg.storage.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.arrays import Array
    from cadseg.storage.files import Batch, Files
    from cadseg.storage.ome import Size


@dataclass(frozen=True, eq=False)
class OutputArray:
    """An array of a run: read box by box, written by whole shards."""

    files: Files
    name: str
    layout: Layout

    def read(self, roi: Roi, written: Callable[[str], Written] | None = None) -> Array:
        """Voxels of `roi`; leading axes come whole.

        Args:
            roi: in voxels of the array.
            written: what a shard must be, by its name; None where nobody knows, and where a shard
                that is not there is all 0.

        Raises:
            DamagedError: a shard is not what it must be.
        """
        shape, shard = self.layout.shape, zyx(self.layout.shard[-3:])
        lead = [slice(0, n) for n in shape[:-3]]
        out = np.empty((*shape[:-3], *roi.shape), self.layout.dtype)
        for cell, voxels in layout.touched(roi, shard):
            box = (*lead, *voxels.slices(zyx(c * n for c, n in zip(cell, shard, strict=True))))
            name = self.shard_name(cell)
            expected = None if written is None else written(name)
            self._read(name, box, out[(..., *voxels.slices(roi.begin))], expected)
        return out

    def write(
        self, batch: Batch, cover: Roi, data: Array, names: Array | None = None
    ) -> dict[str, Written]:
        """Replace the shards that make up `cover`, each as one object; what they are, by name.

        Args:
            batch: puts the objects in their place.
            cover: whole shards, clipped to the volume.
            data: all voxels of `cover`, in the array's own type; or numbers of what they are.
            names: by number, what is written; 0 for 0.
        """
        made = {}
        lead = self.layout.shape[:-3]
        dtype = (data if names is None else names).dtype
        assert dtype == self.layout.dtype, f"{self.name}: {dtype} is not {self.layout.dtype}"
        assert data.shape == (*lead, *cover.shape), f"{self.name}: {data.shape} at {cover}"
        for cell, voxels in layout.cells(
            cover, zyx(self.layout.shard[-3:]), zyx(self.layout.shape[-3:])
        ):
            part = data[(..., *voxels.slices(cover.begin))]
            content, written = shards.encode(part, self.layout.inner, self.layout.shard, names)
            name = self.shard_name(cell)
            made[name] = written
            if content:
                batch.write(name, content)
            else:
                batch.remove(name)
        return made

    def check(self, name: str, written: Written) -> None:
        """Read all of a shard, by its name.

        Raises:
            DamagedError: it is not what was written.
        """
        try:
            shards.check(functools.partial(self.files.read_ranges, name), self.layout, written)
        except ValueError as error:
            raise DamagedError(name, str(error)) from None

    def shard_name(self, cell: Zyx) -> str:
        """Name of the object that is the shard at `cell` of the array's grid."""
        return shard_name(self.name, len(self.layout.shard) - 3) + "/".join(map(str, cell))

    def _read(self, name: str, box: tuple[slice, ...], out: Array, written: Written | None) -> None:
        if written == ABSENT:
            out[...] = 0
            return
        try:
            read = functools.partial(self.files.read_ranges, name)
            shards.decode(read, box, out, self.layout, written)
        except FileNotFoundError:
            if written is not None:
                raise DamagedError(name, "it is missing") from None
            out[...] = 0
        except ValueError as error:
            raise DamagedError(name, str(error)) from None


def shard_name(array: str, lead: int) -> str:
    """What the name of a shard begins with, before its cell ``z/y/x``.

    Args:
        array: its name.
        lead: number of leading axes, which are whole in each shard.
    """
    return f"{array}/c/{lead * '0/'}"


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
    """Make the array `name`, all 0, in a run's group; shards that are there stay.

    Args:
        files: of the run.
        name: of the array; may be nested, as in ``segmentation/0``.
        lead: lengths of the axes before z, y, x.
        shape: voxels along z, y, x.
        dtype: numpy's name of the type.
        shard: shape of the blocks that will be written, in voxels; clipped to the volume.
        voxel_size_nm: of this array, z y x; None where it is not known.
        offset_nm: place of the first corner in the world, z y x.
    """
    clipped = zyx(min(n, whole) for n, whole in zip(shard, shape, strict=True))
    metadata = layout.array_metadata(
        lead,
        shape,
        dtype,
        clipped,
        ome.array_attributes(voxel_size_nm, offset_nm, len(lead)),
    )
    group.add_array(files, name, metadata)
    return open_output(files, name)


def open_output(files: Files, name: str) -> OutputArray:
    """The array `name` of a run's group, made by `create_output`.

    Raises:
        OutputError: its metadata are damaged.
    """
    metadata = group.metadata(files, name)
    try:
        return OutputArray(files, name, Layout.of(metadata))
    except (LookupError, TypeError, ValueError, AttributeError):
        raise group.damaged(files, name) from None
