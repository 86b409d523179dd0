"""Tables longer than memory, sorted and merged a part at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cadseg.storage import scratch, sorting
from cadseg.storage.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cadseg.storage.columns import Table

FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
)
Rows = list[tuple[int, ...]]

KEYS = st.integers(0, 40) | st.integers(2**63, 2**63 + 3)
TABLES = st.lists(st.tuples(KEYS, KEYS), max_size=80)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 5 rows and runs of 12, so that a few rows are many parts."""
    for module in (scratch, sorting):
        monkeypatch.setattr(module, "PART", 5)
    monkeypatch.setattr(sorting, "RUN", 12)


def parts(found: Rows) -> list[Table]:
    """Rows in parts of none to four, with their places as a third column."""
    whole = np.array([(*row, place) for place, row in enumerate(found)], np.uint64).reshape(-1, 3)
    sizes = [3 * i % 5 for i in range(len(found) + 1)]
    some = np.split(whole, np.cumsum(sizes)) if sizes else [whole]
    return [dict(zip("abc", part.T, strict=True)) for part in some]


def rows(tables: Iterable[Table]) -> Rows:
    """All rows of some parts."""
    columns = [[table[name].tolist() for name in sorted(table)] for table in tables]
    return [row for part in columns for row in zip(*part, strict=True)]


@FEW
@given(found=TABLES, by=st.sampled_from([("a",), ("a", "b")]), in_files=st.booleans())
def test_rows_come_in_order(
    found: Rows, by: tuple[str, ...], in_files: bool, tmp_path: Path
) -> None:
    """However many runs there are, rows are sorted, and those of one key come as they came."""
    more = tuple({"a", "b", "c"} - set(by))
    where = Scratch(tmp_path if in_files else None)
    given_rows = rows(parts(found))
    out = list(sorting.ordered(parts(found), by, len(given_rows), where, more))
    assert rows(out) == sorted(given_rows, key=lambda row: row[: len(by)])
    assert all(sorting.length(part) <= 5 for part in out)


@FEW
@given(found=st.lists(st.lists(st.tuples(KEYS, KEYS), unique_by=lambda row: row[0]), max_size=4))
def test_sorted_tables_become_one(found: list[Rows]) -> None:
    """Rows of several sorted tables come in order, and all rows of one key in one part."""
    tables = [parts(sorted(some)) for some in found]
    out = list(sorting.merged(tables, "a"))
    together = [row for table in tables for row in rows(table)]
    assert [row[0] for row in rows(out)] == sorted(row[0] for row in together)
    assert sorted(rows(out)) == sorted(together)
    assert all(sorting.length(part) <= 5 for part in out)
    keys = [set(part["a"].tolist()) for part in out]
    assert sum(map(len, keys)) == len(set().union(*keys))


@FEW
@given(found=TABLES)
def test_the_first_row_of_each_key_stays(found: Rows) -> None:
    """Of sorted rows the first one of each key is left, whichever part it came in."""
    table = parts(sorted(found))
    first: dict[int, tuple[int, ...]] = {}
    for row in rows(table):
        first.setdefault(row[0], row)
    assert rows(sorting.distinct(table, "a")) == list(first.values())


@FEW
@given(found=TABLES)
def test_rows_are_collected_and_grouped_as_they_come(found: Rows) -> None:
    """As a whole, or in parts of a fair size, rows are those that came, in their order."""
    table = parts(found)
    whole = sorting.collected(table, ("a", "b", "c"), 100, Scratch())
    assert rows([whole]) == rows(table) == rows(sorting.slices(whole))
    again = list(sorting.regrouped(table))
    assert rows(again) == rows(table)
    assert all(2 <= sorting.length(part) for part in again[:-1])
    assert all(sorting.length(part) for part in again)
