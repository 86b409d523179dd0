"""What passes between a block, its children and its parent: tables, a part at a time.

What goes up, a block writes once and its parent reads. What goes down, the parent writes for each
child: rows of its first child, of the second, and so on (in the order of `Grid.children`), and in a
second table, ``KIND_begins``, where the rows of each begin and where the last ones end. So a child
reads its own rows and no others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.storage.scratch import Scratch, parts, place_type
from cadseg.storage.sorting import length, regrouped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cadseg.blocks import Block
    from cadseg.storage.columns import Table
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def children(block: Block, store: Store) -> list[Block]:
    """The blocks of the level below that lie in `block`; none at level 0."""
    if block.level == 0:
        return []
    cells = store.grid.children(block.level, block.cell)
    return [store.grid.block(block.level - 1, cell) for cell in cells]


def of_children(
    kind: str, block: Block, store: Store, columns: tuple[str, ...] | None = None
) -> list[Iterator[Table]]:
    """The table `kind` of each child."""
    return [store.parts_of(kind, c.level, c.cell, columns) for c in children(block, store)]


def rows_of_children(kind: str, block: Block, store: Store) -> int:
    """How many rows the tables `kind` of all children have."""
    return sum(store.rows_of(kind, c.level, c.cell) for c in children(block, store))


def write(out: BlockWriter, kind: str, columns: tuple[str, ...], rows: Iterable[Table]) -> int:
    """Write a table of ids, which may have no rows; returns how many it has."""
    out.table(kind, {name: np.empty(0, np.uint64) for name in columns})
    size = 0
    for part in regrouped(rows):
        size += length(part)
        out.table(kind, part)
    return size


def hand_down(
    out: BlockWriter, kind: str, columns: tuple[str, ...], tables: Iterable[Iterable[Table]]
) -> int:
    """Write for each child a table of ids; returns how many rows they have."""
    begins = [0]
    for table in tables:
        begins.append(begins[-1] + write(out, kind, columns, table))
    out.table(f"{kind}_begins", {"begin": np.array(begins, np.uint64)})
    return begins[-1]


def handed_down(kind: str, block: Block, store: Store) -> tuple[int, Iterator[Table]]:
    """What the block's parent has written for it: how many rows, and these."""
    level, parent = block.level + 1, store.grid.parent(block.cell)
    place = store.grid.children(level, parent).index(block.cell)
    begins = store.read_table(f"{kind}_begins", level, parent)["begin"].tolist()
    begin, size = begins[place], begins[place + 1] - begins[place]
    rows = (
        store.rows_between(kind, level, parent, begin + part.start, begin + part.stop)
        for part in parts(size)
    )
    return size, rows


def scratch_for(store: Store, need: int) -> Scratch:
    """Where so many bytes of a block's arrays lie: in memory within the budget, else in files."""
    budget = store.config.agglomerate.memory_gb * 1e9
    folder = store.files.local("") if need > budget else None
    return Scratch(folder, place_type(need))  # a row has a byte at least
