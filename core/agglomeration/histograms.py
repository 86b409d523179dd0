"""Histograms of maxima as linked lists of bins, one per row: joining two allocates nothing.

The nodes of a list are places in `Nodes`; `next` leads from one to the next, with larger bins, and
ends with NONE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cadseg.kernels import in_place

if TYPE_CHECKING:
    from cadseg.arrays import Ids, Int, Numbers, Places
    from cadseg.storage.scratch import Scratch

NONE = 0
"""No node."""


class Nodes(NamedTuple):
    """The nodes of all lists: the bins of all rows one after another, from 1 on.

    Attributes:
        next: the node after each.
        bin: a largest affinity.
        edges: how many original edges have it.
        size: at the first node of a list, the edges of all its nodes.
    """

    next: Places
    bin: Numbers
    edges: Ids
    size: Ids


def linked(width: Numbers, bins: Numbers, counts: Ids, scratch: Scratch) -> tuple[Places, Nodes]:
    """Histograms as in a `Graph`: the first node of each row's list, and all nodes."""
    first = scratch.places(width.size)
    nodes = Nodes(
        next=scratch.places(1 + bins.size),
        bin=scratch.empty(1 + bins.size, np.uint32),
        edges=scratch.empty(1 + bins.size, np.uint64),
        size=scratch.full(1 + bins.size, 0, np.uint64),
    )
    nodes.bin[1:], nodes.edges[1:] = bins, counts
    _link(width, first, nodes)
    return first, nodes


def unlinked(first: Places, nodes: Nodes, scratch: Scratch) -> tuple[Numbers, Numbers, Ids]:
    """And back: the width of each row, bins and counts of all rows."""
    width = scratch.empty(first.size, np.uint32)
    size = _widths(first, nodes, width)
    bins, counts = scratch.empty(size, np.uint32), scratch.empty(size, np.uint64)
    _unlink(first, nodes, bins, counts)
    return width, bins, counts


@in_place
def _link(width: Numbers, first: Places, nodes: Nodes) -> None:
    at = 1
    for row in range(width.size):
        first[row] = at if width[row] else NONE
        for _ in range(width[row]):
            nodes.size[first[row]] += nodes.edges[at]
            nodes.next[at] = at + 1
            at += 1
        if width[row] > 0:
            nodes.next[at - 1] = NONE


@in_place
def median(first: Int, nodes: Nodes) -> Any:
    """The bin of the (n // 2 + 1)-th smallest maximum."""
    pivot = nodes.size[first] // np.uint64(2) + np.uint64(1)
    node = first
    below = nodes.edges[node]
    while below < pivot:
        node = nodes.next[node]
        below += nodes.edges[node]
    return nodes.bin[node]


@in_place
def join(one: Int, other: Int, nodes: Nodes) -> Int:
    """Two lists as one; returns its first node."""
    following, bins, counts, sizes = nodes
    size = sizes[one] + sizes[other]
    first: Int = NONE
    last: Int = NONE
    while one != NONE and other != NONE:
        if bins[one] > bins[other]:
            one, other = other, one
        if bins[one] == bins[other]:
            counts[one] += counts[other]
            other = following[other]
        if last == NONE:
            first = one
        else:
            following[last] = one
        last = one
        one = following[one]
    following[last] = max(one, other)  # what is left of one of them
    sizes[first] = size
    return first


@in_place
def _widths(first: Places, nodes: Nodes, out: Numbers) -> int:
    """Bins of each list into `out`; returns those of all together."""
    size = 0
    for row in range(first.size):
        out[row] = 0
        node = first[row]
        while node != NONE:
            out[row] += np.uint32(1)
            size += 1
            node = nodes.next[node]
    return size


@in_place
def _unlink(first: Places, nodes: Nodes, bins: Numbers, counts: Ids) -> None:
    at = 0
    for row in range(first.size):
        node = first[row]
        while node != NONE:
            bins[at] = nodes.bin[node]
            counts[at] = nodes.edges[node]
            at += 1
            node = nodes.next[node]
