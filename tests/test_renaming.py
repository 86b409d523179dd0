"""Ids and what they become."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.renaming import Renaming

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
    ends = Renaming.by_id(path[:-1][order], path[1:][order]).followed()
    found = ends.of(np.concatenate((path, stranger)))
    assert (found[:-1] == path[-1]).all()
    assert found[-1] == stranger[0]


@FEW
@given(
    first=st.dictionaries(st.integers(0, 9), st.integers(0, 30)),
    after=st.dictionaries(st.integers(10, 20), st.integers(0, 30)),
)
def test_one_renaming_then_another(first: dict[int, int], after: dict[int, int]) -> None:
    """Two renamings as one rename what the one and then the other do."""
    one, other = (
        Renaming.by_id(*(np.array(list(c), np.uint64) for c in (d, d.values())))
        for d in (first, after)
    )
    ids = np.arange(40, dtype=np.uint64)
    np.testing.assert_array_equal(one.then(other).of(ids), other.of(one.of(ids)))
