"""A heap of rows, best first: larger score, then smaller key.

An entry keeps the score and the key with which its row came in; it is stale when the row has
changed since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cadseg.kernels import in_place

if TYPE_CHECKING:
    from cadseg.arrays import Ids, Int, Integers, Places
    from cadseg.storage.scratch import Scratch


class Heap(NamedTuple):
    """Entries; the best one is the first.

    Attributes:
        score, key, row: of each entry.
        size: how many entries are in use, [1].
    """

    score: Ids
    key: Places
    row: Places
    size: Integers

    @classmethod
    def of(cls, capacity: int, scratch: Scratch) -> Heap:
        """Empty."""
        return cls(
            scratch.empty(capacity, np.uint64),
            scratch.places(capacity),
            scratch.places(capacity),
            np.zeros(1, np.int64),
        )


@in_place
def better(score_a: Int, key_a: Int, score_b: Int, key_b: Int) -> Any:
    """Whether a goes before b."""
    return score_a > score_b or (score_a == score_b and key_a < key_b)


@in_place
def push(heap: Heap, score: Int, key: Int, row: Int) -> None:
    """Add an entry."""
    at = heap.size[0]
    heap.size[0] += 1
    while at > 0:
        up = (at - 1) >> 1
        if not better(score, key, heap.score[up], heap.key[up]):
            break
        _copy(heap, up, at)
        at = up
    heap.score[at], heap.key[at], heap.row[at] = score, key, row


@in_place
def pop(heap: Heap) -> None:
    """Drop the best entry."""
    heap.size[0] -= 1
    size = heap.size[0]
    score, key, row = heap.score[size], heap.key[size], heap.row[size]
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and better(
            heap.score[down + 1], heap.key[down + 1], heap.score[down], heap.key[down]
        ):
            down += 1
        if not better(heap.score[down], heap.key[down], score, key):
            break
        _copy(heap, down, at)
        at = down
    heap.score[at], heap.key[at], heap.row[at] = score, key, row


@in_place
def _copy(heap: Heap, at: Int, to: Int) -> None:
    heap.score[to], heap.key[to], heap.row[to] = heap.score[at], heap.key[at], heap.row[at]
