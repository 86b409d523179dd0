"""Changes of data as hands, disks and other programs make them: of trees, text and bytes.

Every change is drawn from a `Random`, so that a seed names it.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

Node = Any
Place = tuple[Any, Any]
"""What holds a node, and the key or index under which."""

ODD: tuple[Node, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1.0000001, 1e308, 5e-324),
    *(2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**18, 10**30, 10**400),
    *(float("inf"), float("-inf"), float("nan")),
    *(
        "",
        "a",
        "null",
        "0",
        "1",
        "nan",
        "\0",
        "a\nb",
        "é",
        "🧠",
        "/",
        "..",
        "/dev/null",
        "a" * 5000,
    ),
    *([], {}, [[]], [None], [0, 0, 0], [1, 2, 3], [-1, -1, -1], [1.5, "a"], [[0, 1]] * 3),
    *({"": 0}, {"a": {"b": []}}, {"name": "a"}, [{}], [[1, 2], [3, 4]]),
)
"""Values that nobody expects."""

BITS = (
    b"",
    b"\0",
    b"\xff",
    b"\xff\xfe",
    b"[",
    b"{",
    b'"',
    b"\n",
    b"&a *a",
    b"1e999",
    b"null",
    b"-",
)


def in_tree(random: Random, tree: Node) -> Node:
    """A copy of `tree` with one to three of its nodes changed."""
    changed = [copy.deepcopy(tree)]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(changed))
        _change(
            random,
            *random.choice(places[1:] if len(places) > 1 and random.random() < 0.97 else places),
        )
        if not changed:
            changed = [None]
    return changed[0]


def in_bytes(random: Random, data: bytes) -> bytes:
    """A copy of `data` that is cut, flipped, mixed up, or has something in it that is not its."""
    for _ in range(random.choice((1, 1, 2))):
        begin, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
        end = random.choice((end, min(end, begin + random.randrange(9))))
        data = random.choice(_CHANGES)(random, data, begin, end)
    return data


def in_json(random: Random, data: bytes) -> bytes:
    """A document with a node changed, or, now and then, bytes of it."""
    try:
        tree = json.loads(data)
    except ValueError:  # spoilt already
        return in_bytes(random, data)
    if random.random() < 0.25:
        return in_bytes(random, data)
    return json.dumps(in_tree(random, tree)).encode("utf-8", "surrogatepass")


def _places(node: Node) -> Iterator[Place]:
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in list(keys):
        yield node, key
        yield from _places(node[key])


def _change(random: Random, above: Any, key: Any) -> None:
    node = above[key]
    how = random.randrange(8)
    if how < 3:
        above[key] = copy.deepcopy(random.choice(ODD))
    elif how == 3:
        above[key] = random.choice((str(node), [node], {"a": node}, [node] * 3))
    elif how == 4:
        del above[key]
    elif how == 5 and isinstance(above, dict):
        above[random.choice(("", "a", f"{key}s", str(key)[:-1]))] = above.pop(key)
    elif how == 6 and isinstance(above, list):
        above.insert(key, copy.deepcopy(node))
    else:
        above[key] = _near(random, node)


def _near(random: Random, node: Node) -> Node:
    """Something like `node`."""
    if isinstance(node, bool) or node is None:
        return not node
    if isinstance(node, int | float):
        return random.choice(
            (
                node + 1,
                node - 1,
                -node,
                node * 1000,
                node * 0.5 if isinstance(node, float) else node // 2,
                str(node),
            )
        )
    if isinstance(node, str):
        return random.choice((node.upper(), node[:-1], node + "x", f" {node}", node[::-1]))
    if isinstance(node, list):
        return random.choice((node[:-1], node[::-1], node * 2, dict(enumerate(map(str, node)))))
    return list(node.items()) if random.random() < 0.5 else list(node.values())


_CHANGES: tuple[Callable[[Random, bytes, int, int], bytes], ...] = (
    lambda random, data, begin, end: data[:begin],
    lambda random, data, begin, end: data[:begin] + data[end:],
    lambda random, data, begin, end: data[:end] + data[begin:],
    lambda random, data, begin, end: data[:begin] + random.choice(BITS) + data[begin:],
    lambda random, data, begin, end: data[:begin] + random.randbytes(end - begin) + data[end:],
    lambda random, data, begin, end: data[:begin] + bytes(end - begin) + data[end:],
    lambda random, data, begin, end: _flipped(random, data, begin),
)


def _flipped(random: Random, data: bytes, place: int) -> bytes:
    if place == len(data):
        return data
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]
