"""Cuts of the merge tree."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.agglomeration.agglomerate import Merges
from cadseg.agglomeration.merge_tree import cut
from cadseg.agglomeration.scoring import Scoring
from cadseg.renaming import Renaming

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
    fragment, segment = cut(
        table(found), above or Renaming.empty(), threshold=lowest, scoring=SCORING
    )
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


def _under(merge: tuple[int, int, int], high: list[tuple[int, int, int]]) -> bool:
    """Whether something that ends above joins the cluster that ends here."""
    return any(parent == merge[0] for _, parent, _ in high)
