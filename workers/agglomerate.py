"""Rows of a block, or what its children left → merges, and the rows that go up a level."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from cadseg.agglomeration import scores
from cadseg.agglomeration.agglomerate import agglomerate
from cadseg.graph import cluster_graph
from cadseg.graph.edges import Edges, Faces, outer_faces
from cadseg.storage.scratch import Workspace
from cadseg.workers.estimates import edges
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    import numpy as np

    from cadseg.blocks import Block, Zyx
    from cadseg.graph.cluster_graph import Graph
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write the tables `merges`, `rows`, `bins` and `frozen` of the block."""
    config = store.config.agglomerate
    space = Workspace(config.memory_gb * 1e9, store.files.local(""))
    rows = _rows_of(block, store, space)
    frozen = frozen_in(block, store)
    merges, left = agglomerate(
        rows,
        frozen.fragment,
        floor=scores.at_least(config.min_affinity, store.affinity_dtype),
        half=scores.half_bits(store.affinity_dtype),
        median=config.scoring == "median",
        space=space,
    )
    kept, bins = left.tables()
    store.write_table("merges", block, vars(merges))
    store.write_table("rows", block, kept)
    store.write_table("bins", block, bins)
    store.write_table("frozen", block, vars(frozen))
    return {"edges": rows.u.size, "merges": merges.fragment.size, "left": left.u.size}


def _rows_of(block: Block, store: Store, space: Workspace) -> Graph:
    if block.level == 0:
        edges = Edges(**store.read_table("edges", 0, block.cell))
        return cluster_graph.from_edges(edges, store.config.agglomerate.scoring)
    children = store.grid.children(block.level, block.cell)
    columns = [functools.partial(_column, store, block.level - 1, cell) for cell in children]
    return cluster_graph.joined_columns(columns, space)


def _column(store: Store, level: int, cell: Zyx, name: str) -> np.ndarray[Any, Any]:
    """One column of the rows that a block has left."""
    kind = "rows" if name in cluster_graph.ROW_COLUMNS else "bins"
    return store.read_table(kind, level, cell, (name,))[name]


def frozen_in(block: Block, store: Store) -> Faces:
    """Fragments that may go on outside the block."""
    if block.level == 0:
        return Faces(**store.read_table("faces", 0, block.cell))
    children = [
        store.grid.block(block.level - 1, cell)
        for cell in store.grid.children(block.level, block.cell)
    ]
    faces = [Faces(**store.read_table("frozen", child.level, child.cell)) for child in children]
    rois = [child.write for child in children]
    return outer_faces(list(zip(rois, faces, strict=True)), block.write, store.grid.domain)


def cost(work: Work) -> Cost:
    """Rows in memory; above level 0 no more than the budget, beyond which they lie in files."""
    memory = edges(work)
    if work.step.level:
        memory = min(memory, round(work.store.config.agglomerate.memory_gb * 1e9))
    return Cost(memory=memory)


KIND = StepKind(
    name="agglomerate",
    run=run,
    cost=cost,
    reads_tables=("edges", "faces", "rows", "bins", "frozen"),
    tables=("merges", "rows", "bins", "frozen"),
    on_levels=True,
)
