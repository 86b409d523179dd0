"""Affinities and fragments of a block → rows of the graph, and the fragments on its faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Block, zyx
from cadseg.edges import edges_of, faces_of

if TYPE_CHECKING:
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write the tables `edges` and `faces` of the block."""
    domain = store.grid.domain
    read = block.write.grown((1, 1, 1), (0, 0, 0)).clipped(domain)
    lower = zyx(np.subtract(block.write.begin, read.begin))
    fragments = store.read("fragments", read)
    affinities = store.read_affinities(block.write)
    edges = edges_of(affinities, fragments, lower)
    faces = faces_of(fragments, lower, block.write, domain)
    store.write_table("edges", block, vars(edges))
    store.write_table("faces", block, vars(faces))
    return {"edges": edges.u.size, "faces": faces.fragment.size}
