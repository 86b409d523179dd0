"""Checkpoints of a block: what is finished of it, kept on disk while the rest is computed.

A step whose blocks take minutes computes *pieces* of an array, one after the other, in an order
that follows from the block. Every `SECONDS` those that have been finished since are put into a file
of their own; who computes the block after a kill takes them over. They go when the block is done.

The file ``FIRST-STOP`` holds the bytes of the pieces FIRST to STOP - 1, the seconds that they took,
and a CRC-32C of all this, of the block's name and of its stage's identity. Nothing is believed: a
file that does not fit is removed, and its pieces are computed again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import struct
import time
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from cadseg.storage.checksums import Counted, checksum
from cadseg.workers.names import divided

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cadseg.arrays import Array, Bytes
    from cadseg.blocks import Zyx
    from cadseg.storage.files import Files

    Box = tuple[slice, ...]

FOLDER = "checkpoints"

SECONDS = 10.0
"""From one file to the next: what a kill can cost, and pieces are as small as tiles."""

_NAME = re.compile(r"(\d+)-(\d+)")
_TAIL = struct.Struct("<dI")


class Checkpoint:
    """What is kept of one block.

    Attributes:
        seconds: that the pieces took that were taken over.
    """

    def __init__(self, files: Files, step: str, cell: Zyx, identity: str) -> None:
        """Nothing is looked at, or written, yet."""
        self.seconds = 0.0
        self._files, self._identity = files, identity
        self._folder = divided(f"{FOLDER}/{step}", cell, "")
        self._used = False

    def missing(self, array: Bytes, pieces: Sequence[Box]) -> Iterator[int]:
        """Which pieces have to be computed; the others are put into `array`.

        Args:
            array: that consists of the pieces.
            pieces: their places in it. When the next one is asked for, the last one is there.
        """
        known = self._taken_over(array, pieces)
        todo = [number for number in range(len(pieces)) if number not in known]
        begin, since = 0, time.monotonic()
        for place, (number, after) in enumerate(itertools.pairwise([*todo, -1])):
            yield number
            seconds = time.monotonic() - since
            if after >= 0 and (seconds >= SECONDS or after > number + 1):
                self._keep(array, pieces, range(todo[begin], number + 1), seconds)
                begin, since = place + 1, time.monotonic()

    def clear(self) -> None:
        """Remove all that is kept: the block is done."""
        if self._used:
            self._files.remove(self._folder)

    def _keep(self, array: Bytes, pieces: Sequence[Box], numbers: range, seconds: float) -> None:
        self._used = True
        name = f"{self._folder}/{numbers.start}-{numbers.stop}"
        with self._files.batch() as batch, batch.writing(name) as sink:
            counted = Counted(sink)
            for number in numbers:
                counted.write(array[pieces[number]].tobytes())
            found = self._checksum(numbers, seconds, counted.written.checksum)
            sink.write(_TAIL.pack(seconds, found))

    def _taken_over(self, array: Array, pieces: Sequence[Box]) -> set[int]:
        """Numbers of the pieces that were kept, which are in `array` now."""
        known: set[int] = set()
        for name in self._files.list(self._folder):
            self._used = True
            numbers = range(0)
            with contextlib.suppress(OSError, ValueError, struct.error):
                numbers = self._read(name, array, pieces)
            if not numbers:
                self._files.remove(f"{self._folder}/{name}")
            known.update(numbers)
        return known

    def _read(self, name: str, array: Array, pieces: Sequence[Box]) -> range:
        """Put the pieces of a file into `array`; returns which they are, none if it is damaged."""
        match = _NAME.fullmatch(name)
        numbers = range(*map(int, match.groups())) if match else range(0)
        if not numbers or numbers.stop > len(pieces):
            return range(0)
        views = [array[pieces[number]] for number in numbers]
        ends = list(itertools.accumulate(view.nbytes for view in views))
        spans = [(end - view.nbytes, view.nbytes) for view, end in zip(views, ends, strict=True)]
        name = f"{self._folder}/{name}"
        parts = self._files.read_ranges(name, [*spans, (ends[-1], _TAIL.size + 1)])
        found = 0
        for view, part in zip(views, parts, strict=False):
            view[...] = np.frombuffer(part, array.dtype).reshape(view.shape)
            found = google_crc32c.extend(found, part)
        seconds, expected = _TAIL.unpack(next(parts))
        if self._checksum(numbers, seconds, found) != expected:
            return range(0)
        self.seconds += seconds
        return numbers

    def _checksum(self, numbers: range, seconds: float, pieces: int) -> int:
        belongs = [self._identity, self._folder, numbers.start, numbers.stop, seconds, pieces]
        return checksum(json.dumps(belongs).encode())
