"""Tables longer than memory, in order: sorted, merged and collected.

Such a table comes and goes in *parts*: tables of at most `PART` rows, one after the other. Only
what has to be there as a whole lies in a `Scratch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.kernels import in_place
from cadseg.renaming import mark
from cadseg.storage.columns import PART
from cadseg.storage.scratch import Scratch, parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cadseg.arrays import Ids, Integers
    from cadseg.storage.columns import Table

RUN = 1 << 20
"""Rows that are sorted at a time, in memory: 40 bytes each, and those of the row."""


def length(table: Table) -> int:
    """How many rows it has."""
    return next(iter(table.values())).size


def slices(table: Table) -> Iterator[Table]:
    """The parts of a table that is there as a whole."""
    for part in parts(length(table)):
        yield {name: column[part] for name, column in table.items()}


def regrouped(rows: Iterable[Table]) -> Iterator[Table]:
    """The same rows in parts that are neither empty nor, but for the last one, small."""
    held: list[Table] = []
    for part in rows:
        if length(part):
            held.append(part)
        if sum(map(length, held)) >= PART // 2:
            yield _together(held)
            held = []
    if held:
        yield _together(held)


def _together(some: list[Table]) -> Table:
    """Rows of several parts as one table."""
    if len(some) == 1:
        return some[0]
    return {name: np.concatenate([part[name] for part in some]) for name in some[0]}


def collected(
    rows: Iterable[Table], columns: tuple[str, ...], size: int, scratch: Scratch
) -> Table:
    """All rows, of which there are at most `size`, as a whole; the columns are uint64."""
    table = {name: scratch.empty(size, np.uint64) for name in columns}
    end = 0
    for part in rows:
        begin, end = end, end + length(part)
        for name, column in table.items():
            column[begin:end] = part[name]
    return {name: column[:end] for name, column in table.items()}


def aligned(tables: Sequence[Iterable[Table]], by: str) -> Iterator[list[Table]]:
    """Rows of tables that are sorted by a column, each value once, as far as all have come.

    Rows of one value come together; all that come at a time are at most a part.
    """
    reach = max(1, PART // max(1, len(tables)))
    sources = [iter(table) for table in tables]
    held: list[Table | None] = [None] * len(sources)
    while True:
        for i, source in enumerate(sources):
            if held[i] is None:
                held[i] = next((part for part in source if length(part)), None)
        there = [(i, part) for i, part in enumerate(held) if part is not None]
        if not there:
            return
        last = min(part[by][:reach][-1] for _, part in there)
        ready = []
        for i, part in there:
            size = int(np.searchsorted(part[by], last, "right"))
            if size:
                ready.append({name: column[:size] for name, column in part.items()})
            rest = {name: column[size:] for name, column in part.items()}
            held[i] = rest if length(rest) else None
        yield ready


def merged(tables: Sequence[Iterable[Table]], by: str) -> Iterator[Table]:
    """Rows of tables that are sorted by a column, each value once: sorted, equal ones together."""
    for some in aligned(tables, by):
        table = _together(some)
        if len(some) > 1:
            order = np.argsort(table[by], kind="stable")
            table = {name: column[order] for name, column in table.items()}
        yield table


def distinct(rows: Iterable[Table], by: str) -> Iterator[Table]:
    """The first row of each value of a column by which they are sorted."""
    last = None
    for part in rows:
        values = part[by]
        if values.size == 0:
            continue
        new = np.append(values[0] != last, values[1:] != values[:-1])
        last = values[-1]
        yield {name: column[new] for name, column in part.items()}


def among(table: Table, by: str, some: Iterable[Ids], scratch: Scratch) -> Iterator[Table]:
    """Rows of a table that is there as a whole, sorted by a column, whose value is among `some`."""
    flags = scratch.full(table[by].size, False, np.bool_)
    for ids in some:
        mark(table[by], ids, flags)
    for part in parts(flags.size):
        yield {name: column[part][flags[part]] for name, column in table.items()}


def ordered(
    rows: Iterable[Table],
    by: tuple[str, ...],
    size: int,
    scratch: Scratch,
    more: tuple[str, ...] = (),
) -> Iterator[Table]:
    """Rows sorted by one or two columns, equal ones as they came.

    Runs of rows are sorted in memory, and then merged.

    Args:
        rows: with columns of uint64.
        by: the columns by which they are sorted.
        size: how many they are at most.
        scratch: where they lie.
        more: other columns that they have.
    """
    table = {name: scratch.empty(size, np.uint64) for name in (*by, *more)}
    begins = _runs(rows, by, table)
    if len(begins) == 2:
        yield from slices({name: column[: begins[-1]] for name, column in table.items()})
        return
    at, end = np.array(begins[:-1], np.int64), np.array(begins[1:], np.int64)
    heap = np.arange(at.size)
    first, last = table[by[0]], table[by[-1]]
    for place in range(heap.size - 1, -1, -1):
        _sink(heap, place, first, last, at, end)
    places = np.empty(PART, np.int64)
    while count := _take(heap, first, last, at, end, places):
        yield {name: column[places[:count]] for name, column in table.items()}


def _runs(rows: Iterable[Table], by: tuple[str, ...], table: Table) -> list[int]:
    """Put rows into `table`, in sorted runs; returns where they begin, and where the last ends."""
    begins, end = [0], 0
    for part in rows:
        begin, end = end, end + length(part)
        if end - begins[-1] > RUN:
            _sort(by, table, slice(begins[-1], begin))
            begins.append(begin)
        for name, column in table.items():
            column[begin:end] = part[name]
    _sort(by, table, slice(begins[-1], end))
    return [*begins, end]


def _sort(by: tuple[str, ...], table: Table, run: slice) -> None:
    order = Scratch().order(*(table[name][run] for name in by))
    for column in table.values():
        column[run] = column[run][order]


@in_place
def _before(one: int, other: int, first: Ids, last: Ids, at: Integers, end: Integers) -> bool:
    """Whether the next row of run `one` comes before that of `other`."""
    a, b = at[one], at[other]
    if a == end[one] or b == end[other]:
        return bool(a < end[one])
    if first[a] != first[b]:
        return bool(first[a] < first[b])
    if last[a] != last[b]:
        return bool(last[a] < last[b])
    return one < other


@in_place
def _sink(heap: Integers, place: int, first: Ids, last: Ids, at: Integers, end: Integers) -> None:
    """Put the run at `place` of a heap of runs where it belongs, from there on."""
    run = heap[place]
    while 2 * place + 1 < heap.size:
        child = 2 * place + 1
        if child + 1 < heap.size and _before(heap[child + 1], heap[child], first, last, at, end):
            child += 1
        if not _before(heap[child], run, first, last, at, end):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = run


@in_place
def _take(
    heap: Integers, first: Ids, last: Ids, at: Integers, end: Integers, places: Integers
) -> int:
    """Places of the next rows; returns how many there are."""
    for i in range(places.size):
        run = heap[0]
        if at[run] == end[run]:
            return i
        places[i] = at[run]
        at[run] += 1
        _sink(heap, 0, first, last, at, end)
    return places.size
