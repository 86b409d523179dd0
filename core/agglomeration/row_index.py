"""A hash table of rows by their two ends: linear probing; 0 is empty, else it holds row + 1.

Ends are looked up in the columns `u` and `v`, so a row is taken out before its ends change and put
in again after. The table's length is a power of two, larger than the number of rows.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from cadseg.agglomeration.hashing import mixed


@nb.njit(nogil=True, cache=True)
def _place(a, b, last):  # type: ignore[no-untyped-def]
    low, high = np.uint64(min(a, b)), np.uint64(max(a, b))
    return np.int64(mixed((high << np.uint64(32)) | low) & np.uint64(last))


@nb.njit(nogil=True, cache=True)
def find(table, u, v, a, b):  # type: ignore[no-untyped-def]
    """The row between `a` and `b`, or -1."""
    last = table.size - 1
    place = _place(a, b, last)
    while table[place] != 0:
        row = np.int64(table[place]) - 1
        if (u[row] == a and v[row] == b) or (u[row] == b and v[row] == a):
            return row
        place = (place + 1) & last
    return np.int64(-1)


@nb.njit(nogil=True, cache=True)
def insert(table, u, v, row):  # type: ignore[no-untyped-def]
    """Put `row` in, under its ends."""
    last = table.size - 1
    place = _place(u[row], v[row], last)
    while table[place] != 0:
        place = (place + 1) & last
    table[place] = np.uint32(row + 1)


@nb.njit(nogil=True, cache=True)
def remove(table, u, v, row):  # type: ignore[no-untyped-def]
    """Take `row` out, and move back what had to probe past it."""
    last = table.size - 1
    place = _place(u[row], v[row], last)
    while table[place] != row + 1:
        place = (place + 1) & last
    hole = place
    while True:
        table[hole] = 0
        while True:
            place = (place + 1) & last
            if table[place] == 0:
                return
            other = np.int64(table[place]) - 1
            wanted = _place(u[other], v[other], last)
            if ((place - wanted) & last) >= ((place - hole) & last):
                break
        table[hole] = table[place]
        hole = place
