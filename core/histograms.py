"""Histograms of maxima as chains of bins, one per row, so that merging two allocates nothing.

A chain's nodes are places in `bin` and `count`; `next` leads from one to the next, with larger
bins, and ends with -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

from cadseg.scores import score

if TYPE_CHECKING:
    from cadseg.graph import Graph
    from cadseg.spill import Workspace

Ids = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Chains:
    """The chains of all rows: where each begins, and the nodes."""

    head: np.ndarray[Any, np.dtype[np.int64]]
    next: np.ndarray[Any, np.dtype[np.int64]]
    bin: np.ndarray[Any, np.dtype[np.uint32]]
    count: Ids

    @classmethod
    def of(cls, graph: Graph, space: Workspace) -> Chains:
        """The histograms of a graph's rows."""
        head = space.empty(graph.width.size, np.int64)
        follow = space.empty(graph.bin.size, np.int64)
        _chained(graph.width, head, follow)
        return cls(head, follow, space.copy(graph.bin), space.copy(graph.bin_count))


@nb.njit(nogil=True, cache=True)
def _chained(width, head, follow):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(width.size):
        head[row] = at
        for _ in range(width[row]):
            follow[at] = at + 1
            at += 1
        if width[row] > 0:
            follow[at - 1] = -1


@nb.njit(nogil=True, cache=True)
def median_of(row, head, follow, bins, counts, half):  # type: ignore[no-untyped-def]
    """Score of a row's median: the bin of the (n // 2 + 1)-th smallest maximum, as in waterz."""
    total = np.uint64(0)
    node = head[row]
    while node >= 0:
        total += counts[node]
        node = follow[node]
    pivot = total // np.uint64(2) + np.uint64(1)
    node = head[row]
    below = counts[node]
    while below < pivot:
        node = follow[node]
        below += counts[node]
    return score(np.uint64(bins[node]), np.uint64(1), half)


@nb.njit(nogil=True, cache=True)
def medians(head, follow, bins, counts, half, out):  # type: ignore[no-untyped-def]
    """`median_of` every row, into `out`."""
    for row in range(head.size):
        out[row] = median_of(row, head, follow, bins, counts, half)


@nb.njit(nogil=True, cache=True)
def join(first, second, follow, bins, counts):  # type: ignore[no-untyped-def]
    """Two ascending chains as one; returns its head."""
    head = -1
    tail = -1
    while first >= 0 or second >= 0:
        if second < 0 or (first >= 0 and bins[first] <= bins[second]):
            node, first = first, follow[first]
        else:
            node, second = second, follow[second]
        if tail >= 0 and bins[tail] == bins[node]:
            counts[tail] += counts[node]
        else:
            if tail < 0:
                head = node
            else:
                follow[tail] = node
            tail = node
    follow[tail] = -1
    return head


@nb.njit(nogil=True, cache=True)
def widths(kept, histograms, head, follow, out):  # type: ignore[no-untyped-def]
    """Bins of each of the rows `kept`, and of all together."""
    size = 0
    for i in range(kept.size):
        out[i] = 0
        node = head[kept[i]] if histograms else np.int64(-1)
        while node >= 0:
            out[i] += np.uint32(1)
            size += 1
            node = follow[node]
    return size


@nb.njit(nogil=True, cache=True)
def unchained(kept, head, follow, bins, counts, out_bin, out_count):  # type: ignore[no-untyped-def]
    """Bins and counts of the rows `kept`, if they have any."""
    at = 0
    for i in range(kept.size if out_bin.size else 0):
        node = head[kept[i]]
        while node >= 0:
            out_bin[at] = bins[node]
            out_count[at] = counts[node]
            at += 1
            node = follow[node]
