"""Contacts of basins, inside a block and across its lower faces → rows of the graph, and faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Block, Roi, open_sides, zyx
from cadseg.graph.edges import Pairs, edges_of, pairs_across
from cadseg.graph.faces import faces_of
from cadseg.workers.arrays import BASINS
from cadseg.workers.estimates import edges as edges_memory
from cadseg.workers.resolve_down import names_of
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.arrays import Ids, Numbers
    from cadseg.blocks import Zyx
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the tables `edges` and `faces` of the block."""
    parts = [Pairs(**store.read_table("pairs", 0, block.cell))]
    rim = store.read_table("rim", 0, block.cell)["affinity"]
    names = names_of(block, store)
    known, faces = [names], []
    for axis, side in open_sides(block.write, store.grid.domain):
        plane = _plane(block, axis, side, store)
        faces.append((axis, side, _among(names, plane)))
        if side == 0:
            below = store.grid.block(0, _below(block.cell, axis))
            lower, lower_names = _plane(below, axis, 1, store), names_of(below, store)
            faces.append((axis, side, _among(lower_names, lower)))
            # numbers of both blocks in one sequence
            lower[lower != 0] += sum(names.size for names in known)
            known.append(lower_names)
            affinities, rim = np.split(rim, [plane.size])
            parts.append(pairs_across(affinities.reshape(plane.shape), lower, plane))
    edges, frozen = edges_of(parts, np.concatenate(known)), faces_of(faces)
    out.table("edges", vars(edges))
    out.table("faces", vars(frozen))
    return {"edges": edges.u.size, "faces": frozen.fragment.size}


def _plane(block: Block, axis: int, side: int, store: Store) -> Numbers:
    """Numbers of the basins on a face of a block."""
    begin, end = list(block.write.begin), list(block.write.end)
    if side:
        begin[axis] = end[axis] - 1
    else:
        end[axis] = begin[axis] + 1
    return store.read("basins", Roi(zyx(begin), zyx(end))).squeeze(axis)


def _below(cell: Zyx, axis: int) -> Zyx:
    return zyx(place - (axis == i) for i, place in enumerate(cell))


def _among(names: Ids, numbers: Numbers) -> Ids:
    """Names of the basins in a plane, each once."""
    there = np.zeros(names.size, np.bool_)
    there[numbers] = True
    return names[there]


def cost(work: Work) -> Cost:
    """The planes on both sides of each face, one of them read by both blocks."""
    planes = (work.voxels_read - work.voxels) * 3 // 2
    return Cost(memory=7 * work.largest + edges_memory(work) // 2, read=BASINS * planes)


KIND = StepKind(
    name="edges",
    run=run,
    cost=cost,
    reads=("basins",),
    reads_tables=("basins", "exits", "roots", "roots_begins", "pairs", "rim"),
    tables=("edges", "faces"),
)
