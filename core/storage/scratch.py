"""Arrays of one computation, in memory, or in files that the system pages in and out.

Which of the two changes nothing but speed, and is decided once, before the first of them. Files
have no name: the system takes them back when the array goes, and when the process is killed.

What numbers the rows of tables has 32 bits while that is enough, and 64 bits beyond, which is
decided then, too: kernels are compiled for either.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.kernels import kernel
from cadseg.storage.columns import PART

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cadseg.arrays import Array, Ids, Places


class Scratch:
    """Where the arrays of one computation lie.

    Attributes:
        folder: for files; None for memory.
        place: the type of what numbers rows, uint32 or int64.
    """

    def __init__(self, folder: Path | None = None, place: Any = np.uint32) -> None:
        """Nothing is written yet."""
        self.folder = folder
        self.place = place

    def empty(self, size: int, dtype: Any) -> Array:
        """A new array [size], whatever it holds.

        Raises:
            OSError: it does not fit onto the disk.
        """
        if self.folder is None or size == 0:
            return np.empty(size, dtype)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            # a full disk is an error now, not a signal later
            os.posix_fallocate(file.fileno(), 0, size * np.dtype(dtype).itemsize)
            return np.asarray(np.memmap(file, dtype, "r+", shape=(size,)))

    def places(self, size: int) -> Places:
        """A new array [size] of what numbers rows, whatever it holds."""
        return self.empty(size, self.place)

    def counted(self, size: int) -> Places:
        """The numbers 0, 1, ... in a new array [size]."""
        out = self.places(size)
        for part in parts(size):
            out[part] = np.arange(part.start, part.stop)
        return out

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
        """
        size = keys[0].size
        assert size <= np.iinfo(self.place).max, f"{size} rows, and places of {self.place}"
        values, places = self.empty(size, np.uint64), self.counted(size)
        more, more_places = self.empty(size, np.uint64), self.places(size)
        for key in reversed(keys):
            for part in parts(size):
                values[part] = key[places[part]]
            if _sort(values, places, more, more_places):
                values, more, places, more_places = more, values, more_places, places
        return places


def place_type(largest: int) -> Any:
    """The smallest type of places up to `largest`: signed beyond 32 bits, as indices are."""
    return np.uint32 if largest <= np.iinfo(np.uint32).max else np.int64


def parts(size: int) -> Iterator[slice]:
    """Slices of at most PART elements that make up an array of `size`."""
    for begin in range(0, size, PART):
        yield slice(begin, min(begin + PART, size))


@kernel
def _sort(values: Ids, places: Places, more: Ids, more_places: Places) -> bool:
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
