"""Ties: which of two keys stays when their edges become one, tried on all small graphs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from toy_graph import Merge, chain, graph_of, greedy, reciprocal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from toy_graph import Graph, Join

CLUSTERS = (1, 2, 3, 4)
PAIRS = tuple(itertools.combinations(CLUSTERS, 2))
HOW_MANY, TREES, CUTS = 729, 15, 9  # as docs/how-it-works.md says

TIED = {(1, 3): 1, (1, 4): 2, (2, 3): 2, (2, 4): 1, (3, 4): 2}  # as docs/draw_merging.py draws


def test_with_the_largest_key_order_changes_nothing() -> None:
    """In every graph of four clusters, reciprocal pairs in any order give the greedy tree."""
    assert _depending_on_order(max, sorted) == []


def test_with_the_smallest_key_it_would() -> None:
    """Were the smallest key kept, trees and cuts of some of them would depend on the order."""
    assert len(list(_graphs())) == HOW_MANY
    assert len(_depending_on_order(min, sorted)) == TREES
    wrong = _depending_on_order(min, _cuts)
    assert len(wrong) == CUTS
    assert graph_of(TIED) in wrong
    assert min(map(len, wrong)) == len(TIED)


def test_chains_make_the_merges_of_the_greedy_order() -> None:
    """Nearest-neighbour chains from one cluster after the other end with the greedy tree."""
    for graph in _graphs():
        merges, left = [], graph
        while left:
            *_, (_, left, more) = chain(left, max(max(left)))
            merges += more
        assert sorted(merges) == sorted(greedy(graph))


def _graphs() -> Iterator[Graph]:
    """All graphs whose edges have a maximum of 1 or 2, or do not exist."""
    for maxima in itertools.product((0, 1, 2), repeat=len(PAIRS)):
        yield graph_of({pair: value for pair, value in zip(PAIRS, maxima, strict=True) if value})


def _depending_on_order(join: Join, look: Callable[[list[Merge]], object]) -> list[Graph]:
    """Graphs in which some order of reciprocal merges looks other than the greedy one."""
    return [
        graph
        for graph in _graphs()
        if any(
            look(reciprocal(graph, order, join)) != look(greedy(graph, join))
            for order in itertools.permutations(CLUSTERS)
        )
    ]


def _cuts(merges: list[Merge]) -> list[tuple[int, ...]]:
    """The segment of each cluster, at both thresholds."""
    found = []
    for threshold in (1, 2):
        name = {cluster: cluster for cluster in CLUSTERS}
        for goes, stays, score in merges:
            if score >= threshold:
                pair = name[goes], name[stays]
                name = {c: min(pair) if n in pair else n for c, n in name.items()}
        found.append(tuple(name.values()))
    return found
