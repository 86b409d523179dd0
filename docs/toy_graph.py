"""Merging in a graph of a few clusters, as literally as how-it-works.md says it.

An edge is the sorted maxima of its original edges, and its key; its score is their median (the
upper of two in the middle). Of two edges the one with the higher score is better, of equal scores
the one with the smaller key. Clusters are named by their smallest member.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Pair = tuple[int, int]
Join = Callable[[Pair, Pair], Pair]


class Edge(NamedTuple):
    """What is known between two clusters."""

    maxima: tuple[int, ...]
    key: Pair

    @property
    def score(self) -> int:
        """The median of the maxima."""
        return self.maxima[len(self.maxima) // 2]

    @property
    def rank(self) -> tuple[int, Pair]:
        """The best edge has the smallest."""
        return -self.score, self.key


Graph = dict[Pair, Edge]


class Merge(NamedTuple):
    """The cluster `goes` joins the cluster `stays`."""

    goes: int
    stays: int
    score: int


class State(NamedTuple):
    """Where a walk is, what is left of the graph, and what has merged on the way."""

    walk: tuple[int, ...]
    graph: Graph
    merges: tuple[Merge, ...]


def graph_of(maxima: dict[Pair, int]) -> Graph:
    """Original edges, whose keys are themselves."""
    return {pair: Edge((value,), pair) for pair, value in maxima.items()}


def merged(graph: Graph, pair: Pair, join: Join = max) -> Graph:
    """The graph after the clusters of `pair` have merged; `join` makes one key of two."""
    stays, goes = pair
    out: Graph = {}
    for (u, v), edge in graph.items():
        a, b = (stays if end == goes else end for end in (u, v))
        if a == b:
            continue
        ends = (min(a, b), max(a, b))
        if ends in out:
            other = out[ends]
            maxima = tuple(sorted(other.maxima + edge.maxima))
            edge = Edge(maxima, join(other.key, edge.key))
        out[ends] = edge
    return out


def best_of(graph: Graph, cluster: int) -> Pair | None:
    """The best edge of a cluster; None where it has none."""
    return min((p for p in graph if cluster in p), key=lambda p: graph[p].rank, default=None)


def greedy(graph: Graph, join: Join = max) -> list[Merge]:
    """The best edge of the whole graph first, until there is none."""
    merges = []
    while graph:
        pair = min(graph, key=lambda p: graph[p].rank)
        merges.append(Merge(pair[1], pair[0], graph[pair].score))
        graph = merged(graph, pair, join)
    return merges


def reciprocal(graph: Graph, order: tuple[int, ...], join: Join = max) -> list[Merge]:
    """Pairs that are each other's best, those with a cluster early in `order` first."""
    merges = []
    while graph:
        for cluster in order:
            pair = best_of(graph, cluster)
            if pair and best_of(graph, pair[0]) == best_of(graph, pair[1]):
                break
        else:
            raise AssertionError("the best edge of all is reciprocal")
        assert pair
        merges.append(Merge(pair[1], pair[0], graph[pair].score))
        graph = merged(graph, pair, join)
    return merges


def chain(graph: Graph, seed: int, join: Join = max) -> list[State]:
    """A walk along a nearest-neighbour chain from `seed`, until it is empty or leads nowhere."""
    walk, merges = [seed], list[Merge]()
    states = [State((seed,), graph, ())]
    while walk and (pair := best_of(graph, walk[-1])):
        onward = pair[0] + pair[1] - walk[-1]
        if walk[-2:-1] == [onward]:
            walk = walk[:-2]
            merges.append(Merge(pair[1], pair[0], graph[pair].score))
            graph = merged(graph, pair, join)
        else:
            walk.append(onward)
        states.append(State(tuple(walk), graph, tuple(merges)))
    return states
