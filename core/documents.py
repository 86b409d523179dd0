"""YAML that others wrote, as plain data: dicts, lists, texts, numbers, true, false and null.

YAML lets a short text stand for endless data, by aliases, so what is read is bounded. A key stands
once in its mapping.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml

MOST = 10_000
"""Nodes of a document, an alias counted as all that it stands for; a recipe has 150."""

LONGEST = 2**20
"""Bytes of a document."""

FAILURES = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What pyyaml raises where a text is no YAML, or a value is not of the type that its tag names."""


def parse(text: str | bytes) -> Any:
    """The data of a document.

    Raises:
        ValueError: it is none, or too large; one line that says why.
    """
    try:
        if len(text) > LONGEST:
            raise ValueError(f"it is longer than {LONGEST} bytes")
        return yaml.load(text if isinstance(text, str) else text.decode(), _Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except FAILURES as error:
        words = " ".join(str(error).split())
        known = isinstance(error, yaml.YAMLError | ValueError)
        raise ValueError(words if known else f"{type(error).__name__}: {words}") from None


class _Loader(yaml.SafeLoader):
    """Counts what it reads."""

    def __init__(self, text: str) -> None:
        """Nothing is read yet."""
        super().__init__(text)
        self._count = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node, which is not the one that holds it."""
        before, alias = self._count, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if not alias:
            self._count += 1
            self._sizes[node] = self._count - before
        elif node in self._sizes:
            self._count += self._sizes[node]
        else:
            raise ValueError("it holds itself")
        if self._count > MOST:
            raise ValueError(f"it has more than {MOST} values")
        _check_keys(node)
        return node


def _check_keys(node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, times in keys.items() if times > 1 and key != "<<"]:
            raise ValueError(f"the key {twice[0]} stands in it twice")
