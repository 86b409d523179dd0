"""Clusters and keys of a graph as numbers in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

from cadseg.agglomeration.hashing import mixed
from cadseg.storage.scratch import parts

if TYPE_CHECKING:
    from cadseg.graph.cluster_graph import Graph
    from cadseg.storage.scratch import Workspace

Ids = np.ndarray[Any, np.dtype[np.uint64]]
Numbers = np.ndarray[Any, np.dtype[np.uint32]]


def numbered(graph: Graph, space: Workspace) -> tuple[Ids, Numbers, Numbers]:
    """All clusters, sorted, and both ends of the rows as places among them."""
    by_v = space.order(graph.v)
    u, v = space.empty(graph.u.size, np.uint32), space.empty(graph.u.size, np.uint32)
    ids = space.empty(_number(graph.u, graph.v, by_v, u, v), np.uint64)
    for part in parts(u.size):
        ids[u[part]], ids[v[part]] = graph.u[part], graph.v[part]
    return ids, u, v


@nb.njit(nogil=True, cache=True)
def _number(ids_u, ids_v, by_v, u, v):  # type: ignore[no-untyped-def]
    """Number the distinct ids from 0 on, in ascending order; returns how many they are."""
    at_u = at_v = 0
    size = 0
    while at_v < by_v.size:
        here = ids_v[by_v[at_v]]
        if at_u < ids_u.size:
            here = min(here, ids_u[at_u])
        while at_u < ids_u.size and ids_u[at_u] == here:
            u[at_u] = size
            at_u += 1
        while at_v < by_v.size and ids_v[by_v[at_v]] == here:
            v[by_v[at_v]] = size
            at_v += 1
        size += 1
    return size


def keys(graph: Graph, space: Workspace) -> tuple[Numbers, Numbers]:
    """The rows' keys as places in the order of keys, and the rows in that order."""
    spread = space.empty(graph.u.size, np.uint64)
    _spread(graph.key_u, graph.key_v, spread)
    by_key = space.order(spread)
    _settle(by_key, spread, graph.key_u, graph.key_v)
    key = space.empty(by_key.size, np.uint32)
    for part in parts(by_key.size):
        key[by_key[part]] = np.arange(part.start, part.stop)
    return key, by_key


@nb.njit(nogil=True, cache=True)
def _spread(key_u, key_v, out):  # type: ignore[no-untyped-def]
    """The upper half of the hash by which keys are ordered first: that of few rows is the same."""
    for row in range(out.size):
        out[row] = _hash(key_u[row], key_v[row]) >> np.uint64(32)


@nb.njit(nogil=True, cache=True)
def _hash(key_u, key_v):  # type: ignore[no-untyped-def]
    return mixed(mixed(key_u) + key_v)


@nb.njit(nogil=True, cache=True)
def _settle(by_key, spread, key_u, key_v):  # type: ignore[no-untyped-def]
    """Put rows that are in the order of `spread` into that of their keys."""
    for i in range(1, by_key.size):
        row = by_key[i]
        at = i
        while at > 0 and spread[by_key[at - 1]] == spread[row]:
            before = by_key[at - 1]
            one, other = _hash(key_u[before], key_v[before]), _hash(key_u[row], key_v[row])
            if (one, key_u[before], key_v[before]) < (other, key_u[row], key_v[row]):
                break
            by_key[at] = before
            at -= 1
        by_key[at] = row
