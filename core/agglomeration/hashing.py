"""Hash tables of ids inside kernels: linear probing, a power of two long, 0 is no id."""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(nogil=True, cache=True)
def mixed(value):  # type: ignore[no-untyped-def]
    """Finalizer of SplitMix64 (Steele et al. 2014): a bijection of uint64 that looks random."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@nb.njit(nogil=True, cache=True)
def slot_of(keys, key):  # type: ignore[no-untyped-def]
    """Where `key` is in the table `keys`, or the empty place where it would go."""
    last = np.uint64(keys.size - 1)
    slot = mixed(key) & last
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + np.uint64(1)) & last
    return slot
