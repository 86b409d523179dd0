"""Rows of a block, or what its children left → merges, and the rows that go up a level."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from cadseg.agglomeration.agglomerate import agglomerate, scratch_for
from cadseg.graph import cluster_graph
from cadseg.graph.edges import Edges
from cadseg.graph.faces import Faces, outer_faces
from cadseg.workers.estimates import edges, within_budget
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cadseg.arrays import Array
    from cadseg.blocks import Block, Zyx
    from cadseg.graph.cluster_graph import Graph
    from cadseg.storage.scratch import Scratch
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the tables `merges`, `rows`, `bins` and `frozen` of the block."""
    scoring = store.scoring
    rows, scratch = _rows_of(block, store)
    frozen = frozen_in(block, store, scratch)
    merges, left = agglomerate(
        rows,
        frozen.fragment,
        scoring=scoring,
        floor=scoring.at_least(store.config.agglomerate.min_affinity),
        scratch=scratch,
    )
    kept, bins = left.tables()
    out.table("merges", vars(merges))
    out.table("rows", kept)
    out.table("bins", bins)
    out.table("frozen", vars(frozen))
    return {"edges": rows.u.size, "merges": merges.fragment.size, "left": left.u.size}


def _rows_of(block: Block, store: Store) -> tuple[Graph, Scratch]:
    """The rows of the block, and where all that is made of them is to lie."""
    budget, folder = store.config.agglomerate.memory_gb * 1e9, store.files.local("")
    if block.level == 0:
        edges = Edges(**store.read_table("edges", 0, block.cell))
        rows = store.scoring.method.from_edges(edges)
        return rows, scratch_for(rows.u.size, rows.bin.size, budget, folder)
    children = store.grid.children(block.level, block.cell)
    columns = [functools.partial(_column, store, block.level - 1, cell) for cell in children]
    scratch = scratch_for(*cluster_graph.sizes(columns), budget, folder)
    return cluster_graph.joined_columns(columns, scratch), scratch


def _column(store: Store, level: int, cell: Zyx, name: str) -> Iterator[Array]:
    """One column of the rows that a block has left, part by part."""
    kind = "rows" if name in cluster_graph.ROW_COLUMNS else "bins"
    return (part[name] for part in store.parts_of(kind, level, cell, (name,)))


def frozen_in(block: Block, store: Store, scratch: Scratch) -> Faces:
    """Fragments that may go on outside the block."""
    if block.level == 0:
        return Faces(**store.read_table("faces", 0, block.cell))
    children = []
    for cell in store.grid.children(block.level, block.cell):
        child = store.grid.block(block.level - 1, cell)
        children.append((child.write, functools.partial(_frozen, store, child)))
    return outer_faces(children, block.write, store.grid.domain, scratch)


def _frozen(store: Store, block: Block) -> Iterator[Faces]:
    """Fragments that may go on outside a block whose rows go up, part by part."""
    return (Faces(**part) for part in store.parts_of("frozen", block.level, block.cell))


def cost(work: Work) -> Cost:
    """Rows in memory; above level 0 no more than the budget, beyond which they lie in files."""
    memory = edges(work)
    return Cost(memory=within_budget(work, memory) if work.step.level else memory)


KIND = StepKind(
    name="agglomerate",
    run=run,
    cost=cost,
    reads_tables=("edges", "faces", "rows", "bins", "frozen"),
    tables=("merges", "rows", "bins", "frozen"),
    on_levels=True,
)
