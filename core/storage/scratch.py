"""Arrays in memory up to a budget, and beyond it in files that the system pages in and out.

Which of the two an array is changes nothing but speed. Files have no name: the system takes them
back when the array goes, and when the process is killed.
"""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Array = np.ndarray[Any, Any]

PART = 1 << 18
"""Elements that are worked on at a time, where numpy needs temporary arrays."""


class Workspace:
    """Where arrays of one computation lie.

    Attributes:
        budget: bytes that they may take in memory, all together.
        folder: for files, made when the first is needed.
        used: bytes that they take in memory now.
        spilled: bytes that were put into files so far.
    """

    def __init__(self, budget: float = math.inf, folder: Path | None = None) -> None:
        """Empty, and nothing written."""
        self.budget = budget
        self.folder = folder
        self.used = 0
        self.spilled = 0

    def empty(self, size: int, dtype: Any) -> Array:
        """A new array [size], whatever it holds.

        Raises:
            OSError: it does not fit onto the disk.
        """
        count = size * np.dtype(dtype).itemsize
        if count and self.used + count > self.budget:
            return self._mapped(size, dtype)
        array = np.empty(size, dtype)
        self.used += count
        weakref.finalize(array, self._freed, count)
        return array

    def full(self, size: int, value: Any, dtype: Any) -> Array:
        """A new array [size] of `value`."""
        array = self.empty(size, dtype)
        array[:] = value
        return array

    def copy(self, array: Array) -> Array:
        """The values of `array` in a new one."""
        out = self.empty(array.size, array.dtype)
        out[:] = array
        return out

    def taken(self, array: Array, places: Array) -> Array:
        """The values of `array` at `places`."""
        out = self.empty(places.size, array.dtype)
        for part in parts(places.size):
            out[part] = array[places[part]]
        return out

    def order(self, *keys: Array) -> Array:
        """Places of the rows in ascending order of the columns `keys`, the first one first.

        A stable sort by digits: it runs through its arrays from front to back, as files like it.

        Args:
            keys: uint64, of equal length.

        Returns:
            uint32.
        """
        size = keys[0].size
        assert size < 1 << 32, f"{size} rows are too many for one block"
        values, places = self.empty(size, np.uint64), self.empty(size, np.uint32)
        more, more_places = self.empty(size, np.uint64), self.empty(size, np.uint32)
        for part in parts(size):
            places[part] = np.arange(part.start, part.stop)
        for key in reversed(keys):
            for part in parts(size):
                values[part] = key[places[part]]
            if _sort(values, places, more, more_places):
                values, more, places, more_places = more, values, more_places, places
        return places

    def _mapped(self, size: int, dtype: Any) -> Array:
        count = size * np.dtype(dtype).itemsize
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            os.posix_fallocate(file.fileno(), 0, count)  # a full disk is an error, not a signal
            array = np.memmap(file, dtype, "r+", shape=(size,))
        self.spilled += count
        return np.asarray(array)

    def _freed(self, count: int) -> None:
        self.used -= count


def parts(size: int) -> Iterator[slice]:
    """Slices of at most PART elements that make up an array of `size`."""
    for begin in range(0, size, PART):
        yield slice(begin, min(begin + PART, size))


@nb.njit(nogil=True, cache=True)
def _sort(values, places, more, more_places):  # type: ignore[no-untyped-def]
    """Sort by the bytes of `values`; returns whether the result is in the second pair of arrays."""
    counts = np.zeros((8, 256), np.int64)
    for i in range(values.size):
        value = values[i]
        for digit in range(8):
            counts[digit, np.int64((value >> np.uint64(8 * digit)) & np.uint64(255))] += 1
    moved = False
    for digit in range(8):
        if counts[digit].max() == values.size:  # all alike
            continue
        shift = np.uint64(8 * digit)
        begin = 0
        for value in range(256):
            here = counts[digit, value]
            counts[digit, value] = begin
            begin += here
        for i in range(values.size):
            bucket = np.int64((values[i] >> shift) & np.uint64(255))
            to = counts[digit, bucket]
            counts[digit, bucket] += 1
            more[to] = values[i]
            more_places[to] = places[i]
        values, more, places, more_places = more, values, more_places, places
        moved = not moved
    return moved
