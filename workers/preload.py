"""Everything that a worker needs, imported and loaded: what its first block would wait for."""

from __future__ import annotations

import tempfile

import numpy as np

from cadseg.agglomeration import merge_tree
from cadseg.agglomeration.agglomerate import agglomerate
from cadseg.agglomeration.scoring import METHODS, Scoring
from cadseg.blocks import Roi
from cadseg.fragments import heights
from cadseg.fragments.climb import climb as climbed
from cadseg.graph import cluster_graph, edges
from cadseg.models import memory
from cadseg.renaming import Renaming
from cadseg.storage import tables
from cadseg.storage.files import LocalFiles
from cadseg.workers import climb, cut, process, pyramid, segment

__all__ = ["climb", "cut", "preload", "process", "pyramid", "segment"]


def preload() -> None:
    """Run every kernel once, on a few voxels: most of the first call's time is numba's start.

    From then on the process, and all forked from it, keep the memory of one block for the next.
    """
    memory.keep_freed()
    box = Roi((0, 0, 0), (2, 8, 8))
    affinities = np.zeros((3, *box.shape), np.uint8)
    field = heights.heights(affinities[1:], distance_clip=1, sigma=1.0, boundary_weight=1.0)
    found = climbed(field, box, box, box.shape)
    pairs = edges.pairs_inside(affinities, found.labels)
    rows = edges.edges_of([pairs], np.append(np.uint64(0), found.ids))
    for name in METHODS:
        scoring = Scoring.of(name, np.uint8)
        contacts = cluster_graph.joined([scoring.method.from_edges(rows)])
        tree, _ = agglomerate(contacts, np.empty(0, np.uint64), scoring=scoring, floor=0)
    merge_tree.cut(tree, Renaming.empty(), threshold=0, scoring=scoring)
    with tempfile.TemporaryDirectory() as folder:  # pyarrow imports pandas, where there is one
        tables.write(LocalFiles(folder), "ids", {"id": found.ids})
        tables.read(LocalFiles(folder), "ids")
