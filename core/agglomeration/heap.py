"""A heap of rows, best first: larger score, then smaller key.

An entry keeps the score and the key with which its row came in; it is stale when the row has
changed since. The first `size` elements of three arrays are in use.
"""

from __future__ import annotations

import numba as nb


@nb.njit(nogil=True, cache=True)
def better(score_a, key_a, score_b, key_b):  # type: ignore[no-untyped-def]
    """Whether a goes before b."""
    return score_a > score_b or (score_a == score_b and key_a < key_b)


@nb.njit(nogil=True, cache=True)
def push(heap_score, heap_key, heap_row, size, now, key, row):  # type: ignore[no-untyped-def]
    """Add an entry to `size` entries."""
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if not better(now, key, heap_score[up], heap_key[up]):
            break
        heap_score[at], heap_key[at], heap_row[at] = heap_score[up], heap_key[up], heap_row[up]
        at = up
    heap_score[at], heap_key[at], heap_row[at] = now, key, row


@nb.njit(nogil=True, cache=True)
def pop(heap_score, heap_key, heap_row, size):  # type: ignore[no-untyped-def]
    """Drop the best of `size` entries."""
    size -= 1
    now, key, row = heap_score[size], heap_key[size], heap_row[size]
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and better(
            heap_score[down + 1], heap_key[down + 1], heap_score[down], heap_key[down]
        ):
            down += 1
        if not better(heap_score[down], heap_key[down], now, key):
            break
        heap_score[at], heap_key[at], heap_row[at] = (
            heap_score[down],
            heap_key[down],
            heap_row[down],
        )
        at = down
    heap_score[at], heap_key[at], heap_row[at] = now, key, row
