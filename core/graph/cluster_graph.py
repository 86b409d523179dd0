"""The graph between clusters of fragments: rows that blocks hand up from level to level.

A row is an edge between two clusters, ``u < v``, each named by its smallest fragment. It carries
the contact (sum and count of affinities), its key (the (u, v) of one original edge: of all that
were merged into it, the largest in the order of `cadseg.agglomeration.agglomerate`), and, for the
median of maxima, a sparse histogram of the maxima of those original edges.

Two blocks can hold rows of one pair only while both its fragments are frozen in both, so that the
rows are parts of one original edge: sums and counts add, and the larger maximum counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

from cadseg.storage.scratch import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cadseg.graph.edges import Edges
    from cadseg.storage.tables import Table

Ids = np.ndarray[Any, np.dtype[np.uint64]]
Column = Callable[[str], np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Graph:
    """Rows sorted by (u, v).

    Attributes:
        u, v: clusters, uint64.
        key_u, key_v: the row's key, uint64.
        sum, count: of the contact, uint64.
        width: histogram bins of each row, uint32; all 0 for the mean.
        bin, bin_count: bins of all rows one after another, ascending in a row, and their counts.
    """

    u: Ids
    v: Ids
    key_u: Ids
    key_v: Ids
    sum: Ids
    count: Ids
    width: np.ndarray[Any, np.dtype[np.uint32]]
    bin: np.ndarray[Any, np.dtype[np.uint32]]
    bin_count: Ids

    def tables(self) -> tuple[Table, Table]:
        """The rows, and their histogram bins, as tables."""
        rows = {name: getattr(self, name) for name in ROW_COLUMNS}
        return rows, {"bin": self.bin, "bin_count": self.bin_count}


ROW_COLUMNS = ("u", "v", "key_u", "key_v", "sum", "count", "width")


def from_edges(edges: Edges, scoring: str) -> Graph:
    """Level 0: original edges, whose keys are themselves."""
    median = scoring == "median"
    return Graph(
        u=edges.u,
        v=edges.v,
        key_u=edges.u,
        key_v=edges.v,
        sum=edges.sum,
        count=edges.count,
        width=np.full(edges.u.size, int(median), np.uint32),
        bin=edges.max if median else np.empty(0, np.uint32),
        bin_count=np.ones(edges.u.size if median else 0, np.uint64),
    )


def joined(parts: Sequence[Graph], space: Workspace | None = None) -> Graph:
    """The rows of several blocks together, parts of one original edge joined."""
    return joined_columns([functools.partial(getattr, part) for part in parts], space)


def joined_columns(parts: Sequence[Column], space: Workspace | None = None) -> Graph:
    """The same, of graphs that are given column by column: no more is in memory at a time.

    Args:
        parts: for each block, the columns of its graph by name.
        space: where the rows are to lie.
    """
    space = space or Workspace()
    begin = np.cumsum([0, *(part("width").size for part in parts)])
    size = int(begin[-1])
    known = {name: _column(parts, name, size, space) for name in ("u", "v", "width")}
    order, again = space.empty(size, np.uint32), space.empty(size, np.bool_)
    rows = _merge_runs(known["u"], known["v"], begin, order, again)
    columns = {}
    for name in ROW_COLUMNS:
        column = known[name] if name in known else _column(parts, name, size, space)
        columns[name] = space.empty(rows, column.dtype)
        _gather(column, order, again, name in ("sum", "count"), columns[name])
    first = space.empty(size, np.int64)
    before = _starts(known["width"], first)
    bins = _column(parts, "bin", before, space)
    counts = _column(parts, "bin_count", before, space)
    after = _starts(columns["width"], space.empty(rows, np.int64))
    out, out_counts = space.empty(after, np.uint32), space.empty(after, np.uint64)
    _gather_bins(known["width"], first, bins, counts, order, again, out, out_counts)
    return Graph(**columns, bin=out, bin_count=out_counts)


def _column(parts: Sequence[Column], name: str, size: int, space: Workspace) -> Any:
    """The column of all parts, one after another."""
    out = space.empty(size, np.uint32 if name in ("width", "bin") else np.uint64)
    at = 0
    for part in parts:
        values = part(name)
        out[at : at + values.size] = values
        at += values.size
    return out


@nb.njit(nogil=True, cache=True)
def _merge_runs(u, v, begin, order, again):  # type: ignore[no-untyped-def]
    """Places of all rows in sorted order, and which repeat the one before; how many do not.

    The rows from `begin[i]` to `begin[i + 1]` are sorted.
    """
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


@nb.njit(nogil=True, cache=True)
def _gather(column, order, again, adds, out):  # type: ignore[no-untyped-def]
    """A column in the order of the joined rows; of parts of a row the first, or their sum."""
    row = -1
    for i in range(order.size):
        if not again[i]:
            row += 1
            out[row] = column[order[i]]
        elif adds:
            out[row] += column[order[i]]


@nb.njit(nogil=True, cache=True)
def _starts(width, out):  # type: ignore[no-untyped-def]
    """Where each row's bins begin; where the last one's end."""
    at = 0
    for row in range(width.size):
        out[row] = at
        at += width[row]
    return at


@nb.njit(nogil=True, cache=True)
def _gather_bins(width, first, bins, counts, order, again, out, out_counts):  # type: ignore[no-untyped-def]
    """Bins in the order of the joined rows. Parts of an original edge have one: the largest."""
    at = 0
    for i in range(order.size):
        row = order[i]
        begin = first[row]
        if again[i] and width[row]:
            assert width[row] == 1
            out[at - 1] = max(out[at - 1], bins[begin])
        elif not again[i]:
            for place in range(begin, begin + width[row]):
                out[at] = bins[place]
                out_counts[at] = counts[place]
                at += 1
