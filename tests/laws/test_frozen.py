"""What is frozen in a block: all that goes on outside, not only what has an edge that does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from generated import Case

from cadseg.blocks import open_sides

if TYPE_CHECKING:
    from in_memory import MemoryStore

    from cadseg.blocks import Zyx

BLOCK: Zyx = (3, 8, 9)
CASES = [Case(seed, (5, 16, 18), levels=30, grain=2, smooth=1.0) for seed in range(12)]
WRONG = 9  # of CASES; docs/how-it-works.md says so, too


def test_frozen_is_what_lies_or_touches_outside() -> None:
    """With that list of each block the merges are those of one block."""
    for case in CASES:
        assert _merges(case.store(BLOCK).run_all()) == _merges(case.store().run_all())


def test_edges_that_lead_out_are_not_enough() -> None:
    """Only freezing the ends of edges that lead out of a block gives other merges."""
    wrong = 0
    for case in CASES:
        store = case.store(BLOCK).run_all()
        right = _merges(store)
        for cell in store.grid.cells(0):
            store.tables["faces", 0, cell] = _ends_of_edges_out(store, cell)
        try:
            wrong += _merges(store.run_all(first="agglomerate-0")) != right
        except ValueError:  # parts of one edge that met too late are two rows of one key
            wrong += 1
    assert wrong == WRONG


def _ends_of_edges_out(store: MemoryStore, cell: Zyx) -> dict[str, np.ndarray[Any, Any]]:
    """The block's table `faces`, without fragments that touch none but themselves outside."""
    block, fragments = store.grid.block(0, cell), store.arrays["fragments"]
    known = store.tables["faces", 0, cell]
    faces = np.zeros_like(known["faces"])
    for axis, side in open_sides(block.write, store.grid.domain):
        place = (block.write.end if side else block.write.begin)[axis]
        own = list(block.write.slices())
        own[axis] = slice(place - 1, place + 1)
        lower, upper = np.moveaxis(fragments[tuple(own)], axis, 0)
        ends = np.concatenate((lower[lower != upper], upper[lower != upper]))
        faces[np.isin(known["fragment"], ends)] |= np.uint8(1 << (2 * axis + side))
    faces &= known["faces"]
    return {"fragment": known["fragment"][faces != 0], "faces": faces[faces != 0]}


def _merges(store: MemoryStore) -> list[tuple[int, ...]]:
    """All rows of the merge tree."""
    tables = [table for (kind, *_), table in store.tables.items() if kind == "merges"]
    rows = [zip(*(column.tolist() for column in table.values()), strict=True) for table in tables]
    return sorted(row for table in rows for row in table)
