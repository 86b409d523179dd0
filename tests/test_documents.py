"""YAML of others: what is read is what pyyaml reads, unless it is endless or unclear."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cadseg import documents

FILES = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
REFUSED = {
    "endless by aliases": (BOMB, "more than 10000 values"),
    "endless by merging": (BOMB.replace("x", "{k: 1}") + "b: {<<: *a9}", "more than 10000 values"),
    "long": ("a" * 2**21, "longer than"),
    "in itself": ("a: &a [*a]", "holds itself"),
    "a mapping in itself": ("&a {b: {c: *a}}", "holds itself"),
    "deep": ("[" * 2000, "nested too deeply"),
    "a key twice": ("a: {b: 1, c: 2, b: 3}", "the key b stands in it twice"),
    "no text": (b"a: \xff", "can't decode byte 0xff"),
    "no number": ("!!int x", "'x'"),
    "no date": ("2020-99-99", "month"),
    "code": ("!!python/object/apply:os.system [false]", "could not determine"),
    "two documents": ("a: 1\n---\nb: 2", "single document"),
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_ships_is_read(path: Path) -> None:
    """Configs that ship are read as pyyaml reads them."""
    assert documents.parse(path.read_bytes()) == yaml.safe_load(path.read_bytes())


def test_aliases_and_merges_are_read() -> None:
    """What is written once and meant twice is there twice; a merged key may be overridden."""
    text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, x: 3}"
    assert documents.parse(text) == yaml.safe_load(text)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    """What has no end, or no clear meaning, is refused in one line that says why."""
    text, part = REFUSED[name]
    with pytest.raises(ValueError, match=part) as error:
        documents.parse(text)
    assert "\n" not in str(error.value)
