"""Clusters and keys of a graph as numbers in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cadseg.agglomeration.hashing import mixed
from cadseg.kernels import in_place
from cadseg.storage.scratch import parts

if TYPE_CHECKING:
    from cadseg.arrays import Ids, Int, Places
    from cadseg.graph.cluster_graph import Graph
    from cadseg.storage.scratch import Scratch


class Numbering(NamedTuple):
    """What numbers stand for.

    Attributes:
        ids: clusters, sorted.
        by_key: rows of the graph in the order of their keys.
    """

    ids: Ids
    by_key: Places


def numbered(graph: Graph, scratch: Scratch) -> tuple[Ids, Places, Places]:
    """All clusters, sorted, and both ends of the rows as places among them."""
    by_v = scratch.order(graph.v)
    u, v = scratch.places(graph.u.size), scratch.places(graph.u.size)
    ids = scratch.empty(_number(graph.u, graph.v, by_v, u, v), np.uint64)
    for part in parts(u.size):
        ids[u[part]], ids[v[part]] = graph.u[part], graph.v[part]
    return ids, u, v


@in_place
def _number(ids_u: Ids, ids_v: Ids, by_v: Places, u: Places, v: Places) -> int:
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


def keys(graph: Graph, scratch: Scratch) -> tuple[Places, Places]:
    """The rows' keys as places in the order of keys, and the rows in that order."""
    upper = scratch.empty(graph.u.size, np.uint64)
    _upper_halves(graph.key_u, graph.key_v, upper)
    by_key = scratch.order(upper)
    _order_equals(by_key, upper, graph.key_u, graph.key_v)
    key = scratch.places(by_key.size)
    for part in parts(by_key.size):
        key[by_key[part]] = np.arange(part.start, part.stop)
    return key, by_key


@in_place
def _upper_halves(key_u: Ids, key_v: Ids, out: Ids) -> None:
    """The upper half of each key's hash; few rows have the same."""
    for row in range(out.size):
        out[row] = _hash(key_u[row], key_v[row]) >> np.uint64(32)


@in_place
def _hash(key_u: Int, key_v: Int) -> Any:
    return mixed(mixed(key_u) + key_v)


@in_place
def _order_equals(by_key: Places, upper: Ids, key_u: Ids, key_v: Ids) -> None:
    """Sort rows that are in the order of `upper`: by hash, then key, where it is equal."""
    for i in range(1, by_key.size):
        row = by_key[i]
        at = i
        while at > 0 and upper[by_key[at - 1]] == upper[row]:
            before = by_key[at - 1]
            one, other = _hash(key_u[before], key_v[before]), _hash(key_u[row], key_v[row])
            if key_u[before] == key_u[row] and key_v[before] == key_v[row]:
                raise ValueError("graph: two rows have one key")
            if (one, key_u[before], key_v[before]) < (other, key_u[row], key_v[row]):
                break
            by_key[at] = before
            at -= 1
        by_key[at] = row
