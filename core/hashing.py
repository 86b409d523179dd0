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


@nb.njit(nogil=True, cache=True)
def grown(keys, values):  # type: ignore[no-untyped-def]
    """The table of `keys` and their `values`, twice as long."""
    more_keys = np.zeros(2 * keys.size, keys.dtype)
    more_values = np.zeros(2 * keys.size, values.dtype)
    for i in range(keys.size):
        if keys[i] != 0:
            slot = slot_of(more_keys, keys[i])
            more_keys[slot] = keys[i]
            more_values[slot] = values[i]
    return more_keys, more_values
