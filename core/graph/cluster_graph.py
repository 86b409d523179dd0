"""The graph between clusters of fragments: rows that blocks hand up from level to level.

A row is an edge between two clusters, ``u < v``, each named by its smallest fragment. It carries
the contact (sum and count of affinities), its key (the (u, v) of one original edge: of all that
were merged into it, the largest in the order of `cadseg.agglomeration.agglomerate`), and, where the
scoring wants one, a sparse histogram with one value of each of those original edges.

Two blocks can hold rows of one pair only while both its fragments are frozen in both, so that the
rows are parts of one original edge: sums and counts add, and the larger value counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cadseg.kernels import in_place, kernel
from cadseg.storage.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cadseg.arrays import Array, Flags, Ids, Integers, Numbers, Places
    from cadseg.graph.edges import Edges
    from cadseg.storage.columns import Table

Columns = Callable[[str], "Iterable[Array]"]
"""The values of a column by its name, part by part."""


@dataclass(frozen=True)
class Graph:
    """Rows sorted by (u, v).

    Attributes:
        u, v: clusters, uint64.
        key_u, key_v: the row's key, uint64.
        sum, count: of the contact, uint64.
        width: histogram bins of each row, uint32; all 0 without histograms.
        bin, bin_count: bins of all rows one after another, ascending in a row, and their counts.
    """

    u: Ids
    v: Ids
    key_u: Ids
    key_v: Ids
    sum: Ids
    count: Ids
    width: Numbers
    bin: Numbers
    bin_count: Ids

    def tables(self) -> tuple[Table, Table]:
        """The rows, and their histogram bins, as tables."""
        rows = {name: getattr(self, name) for name in ROW_COLUMNS}
        return rows, {"bin": self.bin, "bin_count": self.bin_count}


ROW_COLUMNS = ("u", "v", "key_u", "key_v", "sum", "count", "width")


def from_edges(edges: Edges, bins: Numbers | None = None) -> Graph:
    """Level 0: original edges, whose keys are themselves.

    Args:
        edges: of a block.
        bins: of each edge, the one value of its histogram; None for no histograms.
    """
    bins = np.empty(0, np.uint32) if bins is None else bins
    return Graph(
        u=edges.u,
        v=edges.v,
        key_u=edges.u,
        key_v=edges.v,
        sum=edges.sum,
        count=edges.count,
        width=np.full(edges.u.size, int(bins.size > 0), np.uint32),
        bin=bins,
        bin_count=np.ones(bins.size, np.uint64),
    )


def joined(parts: Sequence[Graph]) -> Graph:
    """The rows of several blocks together, parts of one original edge joined."""
    return joined_columns([functools.partial(_whole, part) for part in parts], Scratch())


def _whole(graph: Graph, name: str) -> tuple[Array]:
    return (getattr(graph, name),)


def sizes(parts: Sequence[Columns]) -> tuple[int, int]:
    """How many rows and histogram bins several blocks have, before they are joined."""
    rows = bins = 0
    for part in parts:
        for width in part("width"):
            rows += width.size
            bins += int(width.sum())
    return rows, bins


def joined_columns(parts: Sequence[Columns], scratch: Scratch) -> Graph:
    """The same, of graphs that are given part by part: no more is in memory at a time.

    Args:
        parts: for each block, the columns of its graph.
        scratch: where the rows are to lie.
    """
    begin = np.cumsum([0, *(sum(width.size for width in part("width")) for part in parts)])
    size = int(begin[-1])
    known = {name: _column(parts, name, size, scratch) for name in ("u", "v", "width")}
    source = Source(scratch.places(size), scratch.empty(size, np.bool_))
    rows = _merge_runs(known["u"], known["v"], begin, source)
    columns = {}
    for name in ROW_COLUMNS:
        column = known[name] if name in known else _column(parts, name, size, scratch)
        columns[name] = scratch.empty(rows, column.dtype)
        _gather(column, source, name in ("sum", "count"), columns[name])
    first = scratch.empty(size, np.int64)
    before = _starts(known["width"], first)
    if before != (found := sum(values.size for part in parts for values in part("bin"))):
        raise ValueError(f"graph: {found} histogram bins, for {before}")
    bins = Bins(*(_column(parts, name, before, scratch) for name in ("bin", "bin_count")))
    after = _starts(columns["width"], scratch.empty(rows, np.int64))
    out = Bins(scratch.empty(after, np.uint32), scratch.empty(after, np.uint64))
    _gather_bins(known["width"], first, bins, source, out)
    return Graph(**columns, bin=out.value, bin_count=out.edges)


def _column(parts: Sequence[Columns], name: str, size: int, scratch: Scratch) -> Any:
    """The column of all parts, one after another."""
    out = scratch.empty(size, np.uint32 if name in ("width", "bin") else np.uint64)
    at = 0
    for part in parts:
        for values in part(name):
            if at + values.size <= size:
                out[at : at + values.size] = values
            at += values.size
    if at != size:
        raise ValueError(f"graph: {at} values of {name}, for {size}")
    return out


class Source(NamedTuple):
    """Where joined rows come from.

    Attributes:
        order: rows of all parts, in the order of (u, v).
        again: by place in `order`, whether the row is a part of the edge before it.
    """

    order: Places
    again: Flags


class Bins(NamedTuple):
    """Histogram bins of all rows, one after another."""

    value: Numbers
    edges: Ids


@kernel
def _merge_runs(u: Ids, v: Ids, begin: Integers, out: Source) -> int:
    """Merge the parts, which are sorted; returns how many edges there are.

    The rows of part `i` are those from `begin[i]` to `begin[i + 1]`.
    """
    order, again = out
    at = begin[:-1].copy()
    distinct = 0
    for i in range(u.size):
        best = source = -1
        for run in range(at.size):
            row = at[run]
            if row < begin[run + 1] and (
                best < 0 or u[row] < u[best] or (u[row] == u[best] and v[row] < v[best])
            ):
                best, source = row, run
        at[source] += 1
        order[i] = best
        again[i] = i > 0 and u[order[i - 1]] == u[best] and v[order[i - 1]] == v[best]
        distinct += not again[i]
    return distinct


@in_place
def _gather(column: Array, source: Source, adds: bool, out: Array) -> None:
    """A column of the joined rows: of each edge the sum over its parts, or the first part's."""
    row = -1
    for i in range(source.order.size):
        if not source.again[i]:
            row += 1
            out[row] = column[source.order[i]]
        elif adds:
            out[row] += column[source.order[i]]


@in_place
def _starts(width: Numbers, out: Integers) -> int:
    """Where each row's bins begin; where the last one's end."""
    at = 0
    for row in range(width.size):
        out[row] = at
        at += width[row]
    return at


@in_place
def _gather_bins(width: Numbers, first: Integers, bins: Bins, source: Source, out: Bins) -> None:
    """Bins of the joined rows. A part of an original edge has one: the largest of them counts."""
    at = 0
    for i in range(source.order.size):
        row = source.order[i]
        begin = first[row]
        if source.again[i]:
            if width[row] > 1 or width[row] != width[source.order[i - 1]]:
                raise ValueError("graph: rows of one pair are no parts of one edge")
            if width[row]:
                out.value[at - 1] = max(out.value[at - 1], bins.value[begin])
        else:
            for place in range(begin, begin + width[row]):
                out.value[at] = bins.value[place]
                out.edges[at] = bins.edges[place]
                at += 1
