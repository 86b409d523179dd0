"""Ids and what they become: sorted keys, and a value for each.

An id that is no key stays itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Ids = np.ndarray[Any, np.dtype[np.uint64]]


def follow(ids: Ids, entries: Ids, labels: Ids) -> Ids:
    """Where paths at the voxels `ids` end, once they have followed all `entries` that they meet.

    An id that is no entry stays: it is a top, or lies in none of the joined blocks. Paths climb,
    so they end; doubling the steps makes the rounds logarithmic in the longest path.
    """
    order = np.argsort(entries, kind="stable")
    entries, labels = entries[order], labels[order]
    while True:
        further = lookup(labels, entries, labels)
        if np.array_equal(further, labels):
            break
        labels = further
    return lookup(ids, entries, labels)


def lookup(ids: Ids, keys: Ids, values: Ids) -> Ids:
    """`values` at the places of `ids` in the sorted `keys`; an id that is no key stays itself."""
    if keys.size == 0:
        return ids.copy()
    place = np.minimum(np.searchsorted(keys, ids), keys.size - 1)
    return np.where(keys[place] == ids, values[place], ids)
