"""Fragments on the open faces of a block: those that may go on, or have neighbours, outside it.

A face is open where the domain goes on beyond it. Agglomeration freezes these fragments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Roi, open_sides
from cadseg.kernels import in_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cadseg.arrays import Bytes, Ids, Places
    from cadseg.storage.scratch import Scratch


@dataclass(frozen=True)
class Faces:
    """Fragments on open faces of a block: sorted ids, and one bit per face (z-, z+, y-, ...)."""

    fragment: Ids
    faces: Bytes


def faces_of(found: Iterable[tuple[int, int, Ids]]) -> Faces:
    """The fragments that may go on, or have neighbours, outside a block.

    These are all that the block knows of: those with a voxel on a face beyond which the domain goes
    on, and those just beyond a lower face, with whose voxels the block counts edges.

    Args:
        found: (axis, side, ids of fragments); side 0 is the lower face, 1 the upper one.
    """
    parts = [(ids, 1 << (2 * axis + side)) for axis, side, ids in found]
    ids = np.concatenate([np.empty(0, np.uint64), *(ids for ids, _ in parts)])
    bits = [np.full(ids.size, bit, np.uint8) for ids, bit in parts]
    fragment, place = np.unique(ids, return_inverse=True)
    faces = np.zeros(fragment.size, np.uint8)
    np.bitwise_or.at(faces, place, np.concatenate([np.empty(0, np.uint8), *bits]))
    known = fragment != 0
    return Faces(fragment[known], faces[known])


def outer_faces(
    children: Sequence[tuple[Roi, Callable[[], Iterable[Faces]]]],
    write: Roi,
    domain: Roi,
    scratch: Scratch,
) -> Faces:
    """Fragments on the open faces of the block `write`, from those of the blocks inside it.

    Args:
        children: box of each block inside, and what gives its fragments, part by part.
        write: box of the block.
        domain: all blocks.
        scratch: where the fragments are to lie.
    """
    size = sum(faces.faces.size for faces in _outer(children, write, domain))
    found = Faces(scratch.empty(size, np.uint64), scratch.empty(size, np.uint8))
    at = 0
    for faces in _outer(children, write, domain):
        here = slice(at, at + faces.faces.size)
        found.fragment[here], found.faces[here] = faces.fragment, faces.faces
        at = here.stop
    order = scratch.order(found.fragment)
    fragment, bits = scratch.empty(size, np.uint64), scratch.empty(size, np.uint8)
    size = _united(found.fragment, found.faces, order, fragment, bits)
    return Faces(fragment[:size], bits[:size])


def _outer(
    children: Sequence[tuple[Roi, Callable[[], Iterable[Faces]]]], write: Roi, domain: Roi
) -> Iterator[Faces]:
    """Those of the children's fragments that lie on open faces of `write`, and on which."""
    for child, parts in children:
        bits = 0
        for axis, side in open_sides(write, domain):
            end, outer = (child.end, write.end) if side else (child.begin, write.begin)
            if end[axis] == outer[axis]:
                bits |= 1 << (2 * axis + side)
        for part in parts() if bits else ():
            if part.fragment.size != part.faces.size:
                raise ValueError("frozen fragments: columns are not of one length")
            faces = part.faces & np.uint8(bits)
            there = faces != 0
            yield Faces(part.fragment[there], faces[there])


@in_place
def _united(fragment: Ids, faces: Bytes, order: Places, out: Ids, out_faces: Bytes) -> int:
    """Each fragment once, with all its faces, in the `order` of fragments; returns how many."""
    size = 0
    for i in range(order.size):
        row = order[i]
        if size and out[size - 1] == fragment[row]:
            out_faces[size - 1] |= faces[row]
        else:
            out[size], out_faces[size] = fragment[row], faces[row]
            size += 1
    return size
