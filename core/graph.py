"""The graph between clusters of fragments: rows that blocks hand up from level to level.

A row is an edge between two clusters, ``u < v``, each named by its smallest fragment. It carries
the contact (sum and count of affinities), its key (the largest, in (u, v) order, of the original
edges merged into it; ties between scores go to the smaller key), and, for the median of maxima, a
sparse histogram of the maxima of those original edges.

Two blocks can hold rows of one pair only while both its fragments are frozen in both, so that the
rows are parts of one original edge: sums and counts add, and the larger maximum counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cadseg.edges import Edges
    from cadseg.tables import Table

Ids = np.ndarray[Any, np.dtype[np.uint64]]


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

    @property
    def starts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Where each row's bins begin, and where the last one's end."""
        starts = np.zeros(self.width.size + 1, np.int64)
        np.cumsum(self.width, out=starts[1:])
        return starts

    def tables(self) -> tuple[Table, Table]:
        """The rows, and their histogram bins, as tables."""
        rows = {name: getattr(self, name) for name in ROW_COLUMNS}
        return rows, {"bin": self.bin, "bin_count": self.bin_count}

    def taken(self, order: np.ndarray[Any, np.dtype[np.int64]]) -> Graph:
        """The rows at the places `order`."""
        starts = self.starts
        width = self.width[order]
        ends = np.cumsum(width, dtype=np.int64)
        places = np.arange(int(ends[-1]) if ends.size else 0)
        places += np.repeat(starts[:-1][order] - (ends - width), width)
        columns = {name: getattr(self, name)[order] for name in ROW_COLUMNS}
        return Graph(**columns, bin=self.bin[places], bin_count=self.bin_count[places])


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


def from_tables(rows: Table, bins: Table) -> Graph:
    """The graph that `Graph.tables` wrote."""
    return Graph(**rows, **bins)


def joined(parts: Sequence[Graph]) -> Graph:
    """The rows of several blocks together, parts of one original edge joined."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Graph.__dataclass_fields__
    }
    graph = Graph(**columns)
    graph = graph.taken(np.lexsort((graph.v, graph.u)))
    again = np.zeros(graph.u.size, np.bool_)
    again[1:] = (graph.u[1:] == graph.u[:-1]) & (graph.v[1:] == graph.v[:-1])
    if not again.any():
        return graph
    first = np.flatnonzero(~again)
    kept = graph.taken(first)
    bins = kept.bin
    if graph.bin.size:  # parts of original edges have one bin each
        place = graph.starts[:-1][first]
        tops = np.maximum.reduceat(graph.bin[graph.starts[:-1]], first)
        bins = bins.copy()
        parted = np.diff(np.append(first, again.size)) > 1
        bins[kept.starts[:-1][parted]] = tops[parted]
        assert (graph.width[again] == 1).all()
        assert place.size == first.size
    return Graph(
        u=kept.u,
        v=kept.v,
        key_u=kept.key_u,
        key_v=kept.key_v,
        sum=np.add.reduceat(graph.sum, first),
        count=np.add.reduceat(graph.count, first),
        width=kept.width,
        bin=bins,
        bin_count=kept.bin_count,
    )
