"""Fragments: the basins of a climb over the heights, section by section or through them.

Every voxel points to the best of itself and its neighbours, by (height, global linear index): the
eight in its section, or in three dimensions all twenty-six. Basins are the trees of these pointers,
and a fragment's id is the global linear index of its top voxel in the *full* volume, plus one. 0 is
background: masked voxels, to which no pointer leads.

A pointer is local, a path is not: `climb` labels each voxel of a block with its top, or with the
voxel through which its path leaves the block. `exits` are such voxels outside; an `entry` is a
voxel of the block through which a path of a neighbouring block comes in, with the label that it has
here. `cadseg.renaming.Renaming.follow` joins blocks: it sends exits along the entries of the
blocks that they lead into. Exits and entries are tables of ids (uint64), sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Roi, Zyx, open_sides, zyx
from cadseg.fragments.pointers import NOWHERE, traced
from cadseg.kernels import in_place

if TYPE_CHECKING:
    from cadseg.arrays import Flags, Heights, Ids, Integers, Numbers

REACH = 2
"""Voxels beyond a block, along the axes of the climb, whose heights decide labels and entries."""


@dataclass(frozen=True)
class Climb:
    """What climbing in one block finds.

    Attributes:
        labels: [z, y, x] uint32; 0 is background, and k stands for `ids[k - 1]`.
        ids: of the voxels at which paths end or leave, in the order of the first path.
        exits: voxels outside at which paths arrive.
        entries: voxels of the block at which paths arrive from outside.
        entry_labels: where paths from there end or leave, as ids.
    """

    labels: Numbers
    ids: Ids
    exits: Ids
    entries: Ids
    entry_labels: Ids


def climb(
    heights: Heights,
    read: Roi,
    write: Roi,
    shape: Zyx,
    mask: Flags | None = None,
    *,
    dimensions: int = 2,
) -> Climb:
    """Climb in the block `write` of a volume of `shape`.

    Args:
        heights: [z, y, x] int32 of `read`, which reaches REACH voxels beyond `write` along the axes
            of the climb, or to the domain's border.
        read: box of `heights`.
        write: box of the block.
        shape: of the full volume; gives the ids.
        mask: [z, y, x] of `read`, False where the fragment is 0; None: nowhere.
        dimensions: 2 to climb in sections, 3 through them.
    """
    assert heights.shape == read.shape
    assert write.clipped(read) == write
    if mask is not None:
        heights = np.where(mask, heights, NOWHERE)
    reach = (REACH if dimensions == 3 else 0, REACH, REACH)
    near = write.grown(reach, reach).clipped(read)
    labels, ids, entries = traced(
        heights[near.slices(read.begin)],
        np.array(near.begin, np.int64) - np.array(write.begin, np.int64) + np.array(reach),
        np.array(write.begin, np.int64),
        np.array(write.shape, np.int64),
        np.array(shape, np.int64),
        dimensions == 3,
    )
    entries = np.unique(entries)
    z, y, x = coordinates(entries, shape)
    inside = labels[z - write.begin[0], y - write.begin[1], x - write.begin[2]]
    exits = np.sort(ids[~within(ids, write, shape)])
    return Climb(labels, ids, exits, entries, ids[inside - np.uint32(1)])


def coordinates(ids: Ids, shape: Zyx) -> tuple[Integers, Integers, Integers]:
    """The voxels, z y x, of ids in a volume of `shape`."""
    index = (ids - np.uint64(1)).astype(np.int64)
    yx = shape[1] * shape[2]
    return index // yx, index % yx // shape[2], index % shape[2]


def within(ids: Ids, roi: Roi, shape: Zyx) -> Flags:
    """Which of the ids' voxels lie in `roi`."""
    inside = np.empty(ids.size, np.bool_)
    begin, end, lengths = (np.array(n, np.int64) for n in (roi.begin, roi.end, shape))
    _within(ids, begin, end, lengths, inside)
    return inside


def on_faces(ids: Ids, roi: Roi, domain: Roi, shape: Zyx) -> Flags:
    """Which of the ids' voxels, all in `roi`, lie on a face of it beyond which `domain` goes on."""
    begin, end = list(roi.begin), list(roi.end)
    for axis, side in open_sides(roi, domain):
        begin[axis] += side == 0
        end[axis] -= side == 1
    return ~within(ids, Roi(zyx(begin), zyx(end)), shape)


@in_place
def _within(ids: Ids, begin: Integers, end: Integers, shape: Integers, out: Flags) -> None:
    section = shape[1] * shape[2]
    for i in range(ids.size):
        index = np.int64(ids[i]) - 1
        z, index = divmod(index, section)
        y, x = divmod(index, shape[2])
        out[i] = begin[0] <= z < end[0] and begin[1] <= y < end[1] and begin[2] <= x < end[2]
