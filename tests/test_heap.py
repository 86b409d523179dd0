"""The heap of rows: the first entry is the best one, whatever came in and went out before."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.agglomeration.heap import Heap, pop, push
from cadseg.storage.scratch import Scratch

ENTRIES = st.lists(st.none() | st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=60)


@settings(max_examples=100)
@given(steps=ENTRIES)
def test_the_first_entry_is_the_best(steps: list[tuple[int, int] | None]) -> None:
    """Entries come in, None takes the best one out; the first has the best score, then key."""
    heap, inside = Heap.of(len(steps) + 1, Scratch()), []
    for row, entry in enumerate(steps + [None] * len(steps)):
        if entry is not None:
            push(heap, *entry, row)
            inside.append((-entry[0], entry[1], row))
        elif inside:
            inside.remove((-int(heap.score[0]), int(heap.key[0]), int(heap.row[0])))
            pop(heap)
        assert heap.size[0] == len(inside)
        if inside:
            assert (-int(heap.score[0]), int(heap.key[0])) == min(inside)[:2]
