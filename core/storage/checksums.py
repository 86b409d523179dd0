"""What a file of a run must be, so that a missing, foreign, stale, cut or changed one is seen.

Checksums are CRC-32C (Castagnoli), which processors compute at memory speed. They find damage, not
malice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import google_crc32c

if TYPE_CHECKING:
    from cadseg.storage.files import Data, Sink


class Written(NamedTuple):
    """One file, as its block has written it.

    Attributes:
        length: in bytes; 0 for a shard of which all voxels are 0, which is no file.
        checksum: of the content, or of the part of it that holds checksums of all the rest.
    """

    length: int
    checksum: int


ABSENT = Written(0, 0)
"""A shard of which all voxels are 0: there must be no file."""


class DamagedError(Exception):
    """A file of a run is not what its block has written."""

    def __init__(self, name: str, reason: str) -> None:
        """The file `name`, and what was found."""
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def checksum(data: Data) -> int:
    """CRC-32C of bytes."""
    return int(google_crc32c.value(bytes(data) if isinstance(data, memoryview) else data))


class Counted:
    """A sink that passes everything on, and knows the length and the checksum of what it passed."""

    def __init__(self, sink: Sink) -> None:
        """Nothing is written yet."""
        self._sink = sink
        self._length = self._checksum = 0

    def write(self, data: Data) -> int:
        """Pass `data` on; returns its length."""
        content = bytes(data)
        self._sink.write(content)
        self._length += len(content)
        self._checksum = google_crc32c.extend(self._checksum, content)
        return len(content)

    @property
    def written(self) -> Written:
        """Everything so far."""
        return Written(self._length, self._checksum)
