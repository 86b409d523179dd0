"""Histograms of maxima as chains of bins, one per row, so that merging two allocates nothing.

A chain's nodes are places in `bin` and `count`; `next` leads from one to the next, with larger
bins, and ends with NONE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba as nb
import numpy as np

from cadseg.scores import score

if TYPE_CHECKING:
    from cadseg.graph import Graph
    from cadseg.spill import Workspace

NONE = np.uint32(0xFFFFFFFF)
"""No node."""


class Nodes(NamedTuple):
    """The nodes of all chains."""

    next: Any  # uint32
    bin: Any  # uint32
    count: Any  # uint64


def chained(graph: Graph, space: Workspace) -> tuple[Any, Nodes]:
    """The histograms of a graph's rows: where each chain begins, uint32, and the nodes."""
    assert graph.bin.size < NONE, f"{graph.bin.size} bins are too many for one block"
    head = space.empty(graph.width.size, np.uint32)
    nodes = Nodes(
        space.empty(graph.bin.size, np.uint32), space.copy(graph.bin), space.copy(graph.bin_count)
    )
    _chain(graph.width, head, nodes.next)
    return head, nodes


@nb.njit(nogil=True, cache=True)
def _chain(width, head, follow):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(width.size):
        head[row] = at if width[row] else NONE
        for _ in range(width[row]):
            follow[at] = at + 1
            at += 1
        if width[row] > 0:
            follow[at - 1] = NONE


@nb.njit(nogil=True, cache=True)
def median_of(head, nodes, half):  # type: ignore[no-untyped-def]
    """Score of a chain's median: the bin of the (n // 2 + 1)-th smallest maximum, as in waterz."""
    total = np.uint64(0)
    node = head
    while node != NONE:
        total += nodes.count[node]
        node = nodes.next[node]
    pivot = total // np.uint64(2) + np.uint64(1)
    node = head
    below = nodes.count[node]
    while below < pivot:
        node = nodes.next[node]
        below += nodes.count[node]
    return score(np.uint64(nodes.bin[node]), np.uint64(1), half)


@nb.njit(nogil=True, cache=True)
def medians(head, nodes, half, out):  # type: ignore[no-untyped-def]
    """`median_of` every chain, into `out`."""
    for row in range(head.size):
        out[row] = median_of(head[row], nodes, half)


@nb.njit(nogil=True, cache=True)
def join(first, second, nodes):  # type: ignore[no-untyped-def]
    """Two ascending chains as one; returns its head."""
    follow, bins, counts = nodes
    head = tail = NONE
    while first != NONE and second != NONE:
        if bins[first] > bins[second]:
            first, second = second, first
        if bins[first] == bins[second]:
            counts[first] += counts[second]
            second = follow[second]
        if tail == NONE:
            head = first
        else:
            follow[tail] = first
        tail = first
        first = follow[first]
    follow[tail] = min(first, second)  # what is left of one of them
    return head


@nb.njit(nogil=True, cache=True)
def widths(head, nodes, out):  # type: ignore[no-untyped-def]
    """Bins of each chain, and of all together."""
    size = 0
    for row in range(head.size):
        out[row] = 0
        node = head[row]
        while node != NONE:
            out[row] += np.uint32(1)
            size += 1
            node = nodes.next[node]
    return size


@nb.njit(nogil=True, cache=True)
def unchained(head, nodes, out_bin, out_count):  # type: ignore[no-untyped-def]
    """Bins and counts of the chains."""
    at = 0
    for row in range(head.size):
        node = head[row]
        while node != NONE:
            out_bin[at] = nodes.bin[node]
            out_count[at] = nodes.count[node]
            at += 1
            node = nodes.next[node]
