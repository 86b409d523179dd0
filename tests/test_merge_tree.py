"""Cuts of the merge tree."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.agglomeration.agglomerate import Merges
from cadseg.agglomeration.merge_tree import components, cut, small_sides, then
from cadseg.agglomeration.scoring import Scoring
from cadseg.renaming import Renaming
from cadseg.storage.scratch import Scratch

SCORING = Scoring.of("mean", "uint8")
FEW = settings(max_examples=60, deadline=None)


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Merges (fragment, parent, bin) of random names, scores falling towards the root."""
    names = draw(st.lists(st.integers(1, 200), min_size=1, max_size=20, unique=True))
    names.sort()
    found = []
    score = {name: 255 for name in names}
    for place in range(len(names) - 1, 0, -1):  # a larger name never ends after what it joins
        parent = names[draw(st.integers(0, place - 1))]
        score[names[place]] = draw(st.integers(0, 255))
        found.append((names[place], parent, score[names[place]]))
    found.sort(key=lambda merge: -merge[2])
    return found


def table(found: list[tuple[int, int, int]]) -> Merges:
    rows = np.array(found, np.uint64).reshape(-1, 3)
    ends = (rows[:, 0], rows[:, 1])
    return Merges(*ends, rows[:, 2], np.ones(len(rows), np.uint64), *ends)


def roots(found: list[tuple[int, int, int]], threshold: int) -> dict[int, int]:
    parent = {fragment: to for fragment, to, score in found if score >= threshold}
    ends = {}
    for fragment in parent:
        end = fragment
        while end in parent:
            end = parent[end]
        ends[fragment] = end
    return ends


def cut_at(found: Any, threshold: int, above: Renaming | None = None) -> dict[int, int]:
    lowest = threshold << 2 * SCORING.half
    parts = [vars(table(found[i : i + 3])) for i in range(0, len(found), 3)]
    joins = cut(parts, len(found), threshold=lowest, scoring=SCORING, scratch=Scratch())
    fragment, segment = then(joins, above or Renaming.empty(), Scratch())
    assert fragment.tolist() == sorted(set(fragment.tolist()))
    return dict(zip(fragment.tolist(), segment.tolist(), strict=True))


@FEW
@given(found=trees(), threshold=st.integers(0, 255))
def test_a_cut_keeps_the_merges_at_or_above_it(found: Any, threshold: int) -> None:
    """Every fragment becomes the root that it reaches by merges at or above the threshold."""
    assert cut_at(found, threshold) == roots(found, threshold)


@FEW
@given(found=trees(), threshold=st.integers(0, 255), data=st.data())
def test_a_tree_in_two_levels_is_cut_as_one(
    found: Any, threshold: int, data: st.DataObject
) -> None:
    """The cut of the block above, handed down, completes the cut of the block below."""
    levels = [data.draw(st.booleans()) for _ in found]
    high = [merge for merge, up in zip(found, levels, strict=True) if up]
    low = [merge for merge, up in zip(found, levels, strict=True) if not up]
    # a fragment that ends above cannot be merged below after that, so those go up, too
    moved = True
    while moved:
        ended = {fragment for fragment, *_ in high}
        late = [merge for merge in low if merge[0] not in ended and _under(merge, high)]
        moved = bool(late)
        low = [merge for merge in low if merge not in late]
        high += late
    above = cut_at(high, threshold)
    given_down = Renaming(
        np.array(sorted(above), np.uint64),
        np.array([above[k] for k in sorted(above)], np.uint64),
    )
    assert cut_at(low, threshold, given_down) == roots(found, threshold)


def falling(found: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The merges with scores that fall towards the root, best first."""
    best = {fragment: score for fragment, _, score in found}
    for fragment, parent, _ in sorted(found, reverse=True):
        if parent in best:
            best[parent] = min(best[parent], best[fragment])
    merges = [(fragment, parent, best[fragment]) for fragment, parent, _ in found]
    return sorted(merges, key=lambda merge: (-merge[2], -merge[0]))


@FEW
@given(found=trees(), data=st.data(), least=st.integers(1, 60))
def test_small_sides_are_those_of_merging_one_by_one(
    found: Any, data: st.DataObject, least: int
) -> None:
    """A merge has a small side if one of its clusters was small when its turn came."""
    found = falling(found)
    names = sorted({name for merge in found for name in merge[:2]} | {7})
    size = {name: data.draw(st.integers(1, 30)) for name in names}
    clusters = np.array(names, np.uint64)
    voxels = np.array([size[name] for name in names], np.uint64)
    parts = [vars(table(found[i : i + 2])) for i in range(0, len(found), 2)]
    small = small_sides(parts, len(found), clusters, voxels, least=least, scratch=Scratch())
    expected = []
    for fragment, parent, _ in found:
        expected.append(min(size[fragment], size[parent]) < least)
        size[parent] += size[fragment]
    assert small.tolist() == expected
    assert voxels.tolist() == [size[name] for name in names]


@FEW
@given(edges=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=30))
def test_components_are_named_by_their_smallest(edges: list[tuple[int, int]]) -> None:
    """Every id becomes the smallest that edges lead to from it; the smallest have no entry."""
    rows = np.array(edges, np.uint64).reshape(-1, 2)
    found = components({"u": rows[:, 0].copy(), "v": rows[:, 1].copy()}, Scratch())
    names = {id_: id_ for edge in edges for id_ in edge}
    for _ in edges:
        for u, v in edges:
            names[u] = names[v] = min(names[u], names[v])
    expected = {id_: name for id_, name in sorted(names.items()) if id_ != name}
    assert dict(zip(found.ids.tolist(), found.names.tolist(), strict=True)) == expected


def _under(merge: tuple[int, int, int], high: list[tuple[int, int, int]]) -> bool:
    """Whether something that ends above joins the cluster that ends here."""
    return any(parent == merge[0] for _, parent, _ in high)
