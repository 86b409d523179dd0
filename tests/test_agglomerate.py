"""Agglomeration: a block merges what it can see is best, and hands up enough for the rest."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.agglomeration.agglomerate import Merges, agglomerate
from cadseg.agglomeration.scoring import METHODS, Scoring
from cadseg.graph.cluster_graph import Graph, joined, joined_columns
from cadseg.graph.edges import Edges
from cadseg.storage.scratch import Scratch

Array = np.ndarray[Any, Any]
Contacts = dict[tuple[int, int], tuple[int, int, int]]
FEW = settings(max_examples=60, deadline=None)
NONE = np.empty(0, np.uint64)


@st.composite
def graphs(draw: st.DrawFn) -> Contacts:
    """Random graphs whose contacts have few different scores."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    nodes = draw(st.integers(2, 16))
    names = np.sort(rng.choice(50, nodes, replace=False)) + 1
    levels = rng.choice(256, draw(st.integers(1, 6)), replace=False)
    share = draw(st.sampled_from([0.2, 0.5, 1.0]))
    found: Contacts = {}
    for i in range(nodes):
        for j in range(i + 1, nodes):
            if rng.random() < share:
                count = int(rng.integers(1, 4))
                values = rng.choice(levels, count)
                found[int(names[i]), int(names[j])] = (int(values.sum()), count, int(values.max()))
    return found


def graph(found: Contacts, scoring: str) -> Graph:
    rows = np.array([(*p, *c) for p, c in sorted(found.items())], np.uint64).reshape(-1, 5)
    columns = [rows[:, i].copy() for i in range(4)]
    edges = Edges(*columns, rows[:, 4].astype(np.uint32))
    return METHODS[scoring].from_edges(edges)


def merged(
    rows: Graph, scoring: str, frozen: Array = NONE, floor: float = 0.0
) -> tuple[list[tuple[int, ...]], Graph]:
    rule = Scoring.of(scoring, "uint8")
    tree, left = agglomerate(rows, frozen, scoring=rule, floor=rule.at_least(floor))
    return listed(tree), left


def listed(tree: Merges) -> list[tuple[int, ...]]:
    columns = (tree.fragment, tree.parent, tree.key_u, tree.key_v, tree.sum, tree.count)
    return list(zip(*(c.tolist() for c in columns), strict=True))


@pytest.mark.parametrize("scoring", METHODS)
@FEW
@given(found=graphs(), floor=st.sampled_from([0.0, 0.2, 0.5, 0.9]))
def test_without_frozen_it_is_the_greedy_one(scoring: str, found: Contacts, floor: float) -> None:
    """Merge for merge and in the same order what taking the best edge of all gives."""
    tree, left = merged(graph(found, scoring), scoring, floor=floor)
    assert tree == oracle.greedy(found, scoring, Fraction(str(floor)) * 255)
    assert left.u.size == 0


@pytest.mark.parametrize("scoring", METHODS)
@FEW
@given(found=graphs(), data=st.data())
def test_merging_in_two_rounds_is_merging_in_one(
    scoring: str, found: Contacts, data: st.DataObject
) -> None:
    """What a block with frozen fragments merges and hands up makes the same tree above it."""
    names = sorted({name for pair in found for name in pair})
    frozen = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    floor = data.draw(st.sampled_from([0.0, 0.3]))
    rows = graph(found, scoring)
    below, left = merged(rows, scoring, np.array(sorted(frozen), np.uint64), floor)
    above, rest = merged(left, scoring, floor=floor)
    assert sorted(below + above) == sorted(merged(rows, scoring, floor=floor)[0])
    assert not {name for merge in below for name in merge[:2]} & set(frozen)
    assert rest.u.size == 0


@pytest.mark.parametrize("scoring", METHODS)
@FEW
@given(found=graphs(), seed=st.integers(0, 10**6), floor=st.sampled_from([0.0, 0.4]))
def test_two_blocks_and_one_above_make_one_tree(
    scoring: str, found: Contacts, seed: int, floor: float
) -> None:
    """Rows dealt to two blocks, edges at the face to both in part, give the tree of one block."""
    rng = np.random.default_rng(seed)
    side = {name: int(rng.integers(0, 3)) for pair in found for name in pair}  # 2: on the face
    parts: list[Contacts] = [{}, {}]
    frozen = {name for name, where in side.items() if where == 2}
    for pair, contact in found.items():
        where = {side[name] for name in pair}
        if where == {2} and contact[1] > 1:  # both blocks count some of its voxel pairs
            total, count, largest = contact
            parts[0][pair] = (total - largest, count - 1, 0)
            parts[1][pair] = (largest, 1, largest)
        elif where == {0, 1}:  # across the face: both ends are on it
            frozen |= set(pair)
            parts[0][pair] = contact
        else:
            parts[int(1 in where)][pair] = contact
    below: list[tuple[int, ...]] = []
    left = []
    for part in parts:
        tree, rows = merged(
            graph(part, scoring), scoring, np.array(sorted(frozen), np.uint64), floor
        )
        below += tree
        left.append(rows)
    above, _ = merged(joined(left), scoring, floor=floor)
    assert sorted(below + above) == sorted(merged(graph(found, scoring), scoring, floor=floor)[0])


def test_a_free_cluster_waits_for_a_better_frozen_partner() -> None:
    """Two free fragments do not merge while one of them has a better edge to a frozen one."""
    found = {(1, 2): (100, 1, 100), (2, 3): (200, 1, 200)}
    tree, left = merged(graph(found, "mean"), "mean", np.array([3], np.uint64))
    assert tree == []
    assert left.u.tolist() == [1, 2]


def test_what_is_decided_is_dropped() -> None:
    """A free cluster without an edge at the floor leaves no row, not even to frozen neighbours."""
    found = {(1, 2): (250, 1, 250), (2, 3): (10, 1, 10), (3, 4): (10, 1, 10)}
    tree, left = merged(graph(found, "mean"), "mean", np.array([3, 4], np.uint64), 0.5)
    assert [merge[:2] for merge in tree] == [(2, 1)]
    assert list(zip(left.u.tolist(), left.v.tolist(), strict=True)) == [(3, 4)]


def test_clusters_are_named_by_their_smallest_fragment() -> None:
    """Whichever way round two clusters merge, the larger name ends."""
    found = {(5, 9): (200, 1, 200), (1, 9): (100, 1, 100)}
    tree, _ = merged(graph(found, "mean"), "mean")
    assert [merge[:2] for merge in tree] == [(9, 5), (5, 1)]


def test_ties_are_broken_by_keys_wherever_they_lie() -> None:
    """Equal edges merge in the order of their keys' hashes, which is no order of ids."""
    pairs = [(2 * i + 1, 2 * i + 2) for i in range(50)]
    tree, _ = merged(graph(dict.fromkeys(pairs, (9, 1, 9)), "mean"), "mean")
    found = [(parent, fragment) for fragment, parent, *_ in tree]
    assert found == sorted(pairs, key=oracle.place)
    assert found != sorted(pairs)


def test_the_median_is_the_upper_one() -> None:
    """Of two maxima the larger one counts, of three the middle one, whatever the contact's area."""
    found = {(1, 2): (250, 1, 250), (1, 9): (10, 90, 10), (2, 9): (60, 1, 60)}
    tree, _ = merged(graph(found, "median"), "median")
    assert [(*merge[:2], *merge[-2:]) for merge in tree] == [(2, 1, 250, 1), (9, 1, 60, 1)]
    found |= {(2, 3): (240, 1, 240), (3, 9): (20, 1, 20)}
    tree, _ = merged(graph(found, "median"), "median")
    assert (*tree[-1][:2], *tree[-1][-2:]) == (9, 1, 20, 1)


@pytest.mark.parametrize("scoring", METHODS)
@pytest.mark.parametrize("hubs", [1, 3])
def test_hubs_with_hundreds_of_neighbours_merge_exactly(scoring: str, hubs: int) -> None:
    """Fragments that touch all others, many alike, end in the literal tree, in one round or two."""
    rng = np.random.default_rng(hubs)
    found: Contacts = {}
    for i in range(1, 700):
        for j in {*range(1, hubs + 1), i + 1, i + 2}:
            if i != j:
                maximum = int(rng.integers(0, 8)) * 30
                found[min(i, j), max(i, j)] = (maximum * 3 - maximum // 2, 3, maximum)
    rows = graph(found, scoring)
    expected = oracle.greedy(found, scoring, Fraction(0))
    assert merged(rows, scoring)[0] == expected
    for frozen in (NONE, np.array([1], np.uint64), np.array([5, 90, 600], np.uint64)):
        below, left = merged(rows, scoring, frozen)
        above, _ = merged(left, scoring)
        assert sorted(below + above) == sorted(expected)


@pytest.mark.parametrize("scoring", METHODS)
@FEW
@given(found=graphs(), floor=st.sampled_from([0.0, 0.2, 0.5]), data=st.data())
def test_best_first_finds_the_tree_by_itself(
    scoring: str, found: Contacts, floor: float, data: st.DataObject
) -> None:
    """Were every cluster a hub, so that no chain is followed, the tree would be the same."""
    names = sorted({name for pair in found for name in pair})
    frozen = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cadseg.agglomeration.agglomerate.merge_chains", lambda *_: (0, True))
        below, left = merged(
            graph(found, scoring), scoring, np.array(sorted(frozen), np.uint64), floor
        )
        above, rest = merged(left, scoring, floor=floor)
    assert sorted(below + above) == sorted(
        oracle.greedy(found, scoring, Fraction(str(floor)) * 255)
    )
    assert rest.u.size == 0


def test_keys_of_one_hash_are_ordered_by_their_ends() -> None:
    """Rows whose keys have the same hash, or half of it, are taken in one order all the same."""
    ends = np.arange(1, 7, dtype=np.uint64)
    first = oracle.mixed(1) + 2  # of the hash of (1, 2); the others are made to have it too
    key_u = [5, 4, 1, 3, 2, 6]
    key_v = [(first - oracle.mixed(i)) % 2**64 for i in key_u]
    rows = dataclasses.replace(
        graph({(int(i), int(i) + 10): (9, 1, 9) for i in ends}, "mean"),
        key_u=np.array(key_u, np.uint64),
        key_v=np.array(key_v, np.uint64),
    )
    tree, _ = merged(rows, "mean")
    assert [key_u[parent - 1] for _, parent, *_ in tree] == [1, 2, 3, 4, 5, 6]


@FEW
@given(found=graphs(), floor=st.sampled_from([0.0, 0.2]))
def test_the_unit_of_area_does_not_matter(found: Contacts, floor: float) -> None:
    """Contacts 2**40 times as large, beyond any volume, merge as the small ones do."""
    large = {pair: (s << 40, c << 40, most) for pair, (s, c, most) in found.items()}
    expected = [
        (*names, s << 40, c << 40)
        for *names, s, c in merged(graph(found, "mean"), "mean", floor=floor)[0]
    ]
    assert merged(graph(large, "mean"), "mean", floor=floor)[0] == expected


@pytest.mark.parametrize("scoring", METHODS)
def test_more_rows_than_32_bits_count_merge_alike(scoring: str) -> None:
    """With 64 bits for the place of a row, every table is the same, in one round and in two."""
    rng = np.random.default_rng(2)
    found: Contacts = {}
    for i in range(1, 800):
        for j in {1, 2, i + 1, i + 2, i + 3 + int(rng.integers(0, 30))} - {i}:
            affinity = int(rng.integers(0, 8)) * 30
            found[min(i, j), max(i, j)] = (affinity * 3 - affinity // 2, 3, affinity)
    rule, frozen = Scoring.of(scoring, "uint8"), np.arange(3, 800, 40, dtype=np.uint64)
    tables = []
    for place in (np.uint32, np.int64):
        scratch = Scratch(place=place)
        rows = joined_columns([lambda name: [getattr(graph(found, scoring), name)]], scratch)
        below, left = agglomerate(
            rows, frozen, scoring=rule, floor=rule.at_least(0.2), scratch=scratch
        )
        above, _ = agglomerate(left, NONE, scoring=rule, floor=rule.at_least(0.2), scratch=scratch)
        assert min(below.fragment.size, left.u.size, above.fragment.size) > 0
        tables.append(
            {**vars(left), **vars(below), **{f"above {k}": v for k, v in vars(above).items()}}
        )
    for name, column in tables[0].items():
        assert column.dtype == tables[1][name].dtype
        np.testing.assert_array_equal(column, tables[1][name], err_msg=name)
