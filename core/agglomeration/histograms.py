"""Histograms of maxima as chains of bins, one per row, so that merging two allocates nothing.

A chain's nodes are places in `bin` and `count`; `next` leads from one to the next, with larger
bins, and ends with NONE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba as nb
import numpy as np

from cadseg.agglomeration.scores import score

if TYPE_CHECKING:
    from cadseg.storage.scratch import Workspace

NONE = np.uint32(0xFFFFFFFF)
"""No node."""


class Nodes(NamedTuple):
    """The nodes of all chains."""

    next: Any  # uint32
    bin: Any  # uint32
    count: Any  # uint64
    size: Any  # maxima in all of the chain, at its first node; uint64


def chained(width: Any, bins: Any, counts: Any, space: Workspace) -> tuple[Any, Nodes]:
    """Histograms as in a `Graph`: where the chain of each row begins, uint32, and all nodes."""
    assert bins.size < NONE, f"{bins.size} bins are too many for one block"
    head = space.empty(width.size, np.uint32)
    nodes = Nodes(
        next=space.empty(bins.size, np.uint32),
        bin=space.copy(bins),
        count=space.copy(counts),
        size=space.full(bins.size, 0, np.uint64),
    )
    _chain(width, head, nodes)
    return head, nodes


def unchained(head: Any, nodes: Nodes, space: Workspace) -> tuple[Any, Any, Any]:
    """And back: width of each row, bins and counts of all."""
    width = space.empty(head.size, np.uint32)
    size = _widths(head, nodes, width)
    bins, counts = space.empty(size, np.uint32), space.empty(size, np.uint64)
    _unchain(head, nodes, bins, counts)
    return width, bins, counts


@nb.njit(nogil=True, cache=True)
def _chain(width, head, nodes):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(width.size):
        head[row] = at if width[row] else NONE
        for _ in range(width[row]):
            nodes.size[head[row]] += nodes.count[at]
            nodes.next[at] = at + 1
            at += 1
        if width[row] > 0:
            nodes.next[at - 1] = NONE


@nb.njit(nogil=True, cache=True)
def median_of(head, nodes, half):  # type: ignore[no-untyped-def]
    """Score of a chain's median: the bin of the (n // 2 + 1)-th smallest maximum, as in waterz."""
    pivot = nodes.size[head] // np.uint64(2) + np.uint64(1)
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
    follow, bins, counts, sizes = nodes
    size = sizes[first] + sizes[second]
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
    sizes[head] = size
    return head


@nb.njit(nogil=True, cache=True)
def _widths(head, nodes, out):  # type: ignore[no-untyped-def]
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
def _unchain(head, nodes, out_bin, out_count):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(head.size):
        node = head[row]
        while node != NONE:
            out_bin[at] = nodes.bin[node]
            out_count[at] = nodes.count[node]
            at += 1
            node = nodes.next[node]
