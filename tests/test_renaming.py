"""Ids and what they become."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.renaming import Renaming, mark

FEW = settings(max_examples=60, deadline=None)


@FEW
@given(
    ids=st.lists(st.integers(0, 12), max_size=60),
    entries=st.dictionaries(st.integers(1, 12), st.integers(1, 2**64 - 1)),
)
def test_ids_become_what_the_table_says(ids: list[int], entries: dict[int, int]) -> None:
    """Every id gets its entry; an id without one, and 0, stay; the array itself does not change."""
    array = np.array(ids, np.uint64).reshape(1, -1)
    found = Renaming.by_id(*(np.array(list(c), np.uint64) for c in (entries, entries.values())))
    assert found.of(array).tolist() == [[entries.get(i, i) for i in ids]]
    assert array.ravel().tolist() == ids


@FEW
@given(steps=st.lists(st.integers(0, 10**6), min_size=1, max_size=40, unique=True))
def test_following_leads_to_the_end_of_a_path(steps: list[int]) -> None:
    """Along a chain of entries, in any order, every id ends at the last one; others stay."""
    path = np.array(steps, np.uint64)
    order = np.random.default_rng(len(steps)).permutation(path.size - 1)
    stranger = np.array([10**7], np.uint64)
    ends = Renaming.by_id(path[:-1][order], path[1:][order])
    ends.follow()
    found = ends.of(np.concatenate((path, stranger)))
    assert (found[:-1] == path[-1]).all()
    assert found[-1] == stranger[0]


@FEW
@given(steps=st.permutations(range(1, 30)), cut=st.integers(1, 28))
def test_a_cycle_ends(steps: list[int], cut: int) -> None:
    """Ids that become one another are noticed, wherever paths lead into the cycle."""
    path = np.array(steps, np.uint64)
    damaged = Renaming.by_id(path, np.append(path[1:], path[cut - 1]))
    with pytest.raises(ValueError, match="one another"):
        damaged.follow()


@FEW
@given(
    ids=st.lists(st.integers(0, 40), unique=True),
    some=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 40)),
)
def test_what_is_looked_for_is_found(ids: list[int], some: list[int]) -> None:
    """Those of the ids are marked that are among others, in any order, and no more."""
    known = np.array(sorted(ids), np.uint64)
    flags = np.zeros(known.size, np.bool_)
    mark(known, np.array(some, np.uint64), flags)
    assert known[flags].tolist() == sorted(set(ids) & set(some))
