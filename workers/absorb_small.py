"""Merges of a block → the components of those that hold: at the threshold, or as a side is small.

A step of runs with `segment.min_voxels`, before `cut`. A component is named by its smallest
fragment. Level by level, up to the block that holds everything, components of children are joined;
`cut` hands their final names down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration import merge_tree
from cadseg.agglomeration.segment_table import measured
from cadseg.renaming import Renaming
from cadseg.storage.sorting import among, collected, distinct, merged, ordered, slices
from cadseg.workers import levels
from cadseg.workers.arrays import BASINS
from cadseg.workers.estimates import MEMBER, MERGE, crossing_clusters, within_budget
from cadseg.workers.resolve_down import names_of
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cadseg.arrays import Flags, Ids
    from cadseg.blocks import Block
    from cadseg.storage.columns import Table
    from cadseg.storage.scratch import Scratch
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the tables `joins`, `ends` and `voxels` of the block."""
    merges = store.rows_of("merges", block.level, block.cell)
    others = sum(levels.rows_of_children(kind, block, store) for kind in ("voxels", "ends"))
    scratch = levels.scratch_for(store, MERGE * merges + MEMBER * others)
    clusters, voxels = _voxels(block, store, scratch)
    small = merge_tree.small_sides(
        store.parts_of("merges", block.level, block.cell, ("fragment", "parent")),
        merges,
        clusters,
        voxels,
        least=store.config.segment.min_voxels,
        scratch=scratch,
    )
    table = {"fragment": clusters, "voxels": voxels}
    rows = among(table, "fragment", _handed_up(block, store, ("u", "v")), scratch)
    levels.write(out, "voxels", ("fragment", "voxels"), rows)
    del rows, table, clusters, voxels
    ends = _ends(block, store, scratch)
    joins = _joins(block, store, ends, small, scratch)
    levels.write(out, "joins", ("fragment", "component"), slices(_table(joins)))
    keys = _handed_up(block, store, ("key_u", "key_v"))
    rows = (
        part | {"component": joins.of(part["component"])}
        for part in among(_table(ends), "fragment", keys, scratch)
    )
    levels.write(out, "ends", ("fragment", "component"), rows)
    return {"small": int(np.count_nonzero(small))}


def _table(components: Renaming) -> Table:
    return {"fragment": components.ids, "component": components.names}


def _voxels(block: Block, store: Store, scratch: Scratch) -> tuple[Ids, Ids]:
    """Sorted clusters that may merge in the block, and how large each is before."""
    if block.level == 0:
        names, numbers = names_of(block, store), store.read("basins", block.write)
        rows = measured(numbers, names, names, block.write, store.grid.shape)
        return rows["segment"], rows["voxels"].astype(np.uint64)
    size = levels.rows_of_children("voxels", block, store)
    parts = map(_added, merged(levels.of_children("voxels", block, store), "fragment"))
    table = collected(parts, ("fragment", "voxels"), size, scratch)
    return table["fragment"], table["voxels"]


def _added(rows: Table) -> Table:
    """Sorted clusters, each once: what of one lies in several children adds up."""
    ids = rows["fragment"]
    begin = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    return {"fragment": ids[begin], "voxels": np.add.reduceat(rows["voxels"], begin)}


def _handed_up(block: Block, store: Store, of_rows: tuple[str, ...]) -> Iterator[Ids]:
    """Columns of the rows that the block hands up, and its frozen fragments, part by part."""
    for kind, columns in (("rows", of_rows), ("frozen", ("fragment",))):
        for part in store.parts_of(kind, block.level, block.cell, columns):
            yield from part.values()


def _ends(block: Block, store: Store, scratch: Scratch) -> Renaming:
    """The components of fragments that keys name: of the block's rows, or of its children's.

    What a block hands up was handed to it, so the keys of its rows are keys of its children's. A
    fragment that several children name is frozen in each of them, so it is its own component.
    """
    if block.level == 0:
        keys = _handed_up(block, store, ("key_u", "key_v"))
        ids = np.unique(np.concatenate([np.empty(0, np.uint64), *keys]))
        return Renaming(ids, ids)
    size = levels.rows_of_children("ends", block, store)
    rows = distinct(merged(levels.of_children("ends", block, store), "fragment"), "fragment")
    return Renaming(*collected(rows, ("fragment", "component"), size, scratch).values())


def _joins(block: Block, store: Store, ends: Renaming, small: Flags, scratch: Scratch) -> Renaming:
    """Components of the block, made of those of its children."""
    keys = merge_tree.held(
        store.parts_of("merges", block.level, block.cell, ("sum", "count", "key_u", "key_v")),
        ("key_u", "key_v"),
        small,
        threshold=store.scoring.at_least(store.config.segment.threshold),
        scoring=store.scoring,
    )
    rows = ordered(keys, ("key_u",), small.size, scratch, ("key_v",))
    edges = ({"u": ends.of(part["key_u"]), "v": ends.of(part["key_v"])} for part in rows)
    return merge_tree.components(collected(edges, ("u", "v"), small.size, scratch), scratch)


def cost(work: Work) -> Cost:
    """Level 0 measures the block's basins; above it clusters that cross faces are joined."""
    if work.step.level:
        return Cost(memory=within_budget(work, (MERGE + 2 * MEMBER) * crossing_clusters(work)))
    return Cost(memory=11 * work.largest, read=BASINS * work.voxels)


KIND = StepKind(
    name="absorb_small",
    run=run,
    cost=cost,
    reads=("basins",),
    reads_tables=(
        *("basins", "exits", "roots", "roots_begins", "merges", "rows", "frozen"),
        *("ends", "voxels"),
    ),
    tables=("joins", "ends", "voxels"),
    on_levels=True,
)
