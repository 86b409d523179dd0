"""A hash table of rows by their two ends: linear probing; 0 is empty, else it holds row + 1.

Ends are looked up in the columns `u` and `v`, so a row is taken out before its ends change and put
in again after. The table's length is a power of two, larger than the number of rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration.hashing import mixed
from cadseg.kernels import in_place

if TYPE_CHECKING:
    from cadseg.arrays import Int, Places
    from cadseg.storage.scratch import Scratch


def table_for(rows: int, scratch: Scratch) -> Places:
    """An empty table with room for so many rows."""
    size = max(2, 1 << math.ceil(math.log2(1.6 * rows + 2)))
    return scratch.full(size, 0, scratch.place)


@in_place
def _place(a: Int, b: Int, last: Int) -> Int:
    low, high = np.uint64(min(a, b)), np.uint64(max(a, b))
    return np.int64(mixed((high << np.uint64(32)) ^ low) & np.uint64(last))


@in_place
def find(table: Places, u: Places, v: Places, a: Int, b: Int) -> Int:
    """The row between `a` and `b`, or -1."""
    last = table.size - 1
    place = _place(a, b, last)
    while table[place] != 0:
        row = np.int64(table[place]) - 1
        if (u[row] == a and v[row] == b) or (u[row] == b and v[row] == a):
            return row
        place = (place + 1) & last
    return np.int64(-1)


@in_place
def insert(table: Places, u: Places, v: Places, row: Int) -> None:
    """Put `row` in, under its ends."""
    last = table.size - 1
    place = _place(u[row], v[row], last)
    while table[place] != 0:
        place = (place + 1) & last
    table[place] = row + 1


@in_place
def remove(table: Places, u: Places, v: Places, row: Int) -> None:
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
