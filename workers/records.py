"""Done-records: what says that a block is done, and what its files must be.

A record is written after the block's data are on the disk, and counts while it carries the identity
that its stage has now. It is one line of JSON, which names the block, and, in a second line, the
CRC-32C of the first: one that is damaged, or another block's, is no record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.blocks import cell_name
from cadseg.storage.checksums import Written, checksum
from cadseg.workers.names import record_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cadseg.blocks import Zyx
    from cadseg.storage.files import Files


@dataclass(frozen=True)
class Record:
    """What a block has left.

    Attributes:
        identity: of its stage.
        voxels: that it has computed.
        seconds: that it took.
        counts: of what it found; which, depends on its kind.
        files: what each of its files must be, by name.
    """

    identity: str
    voxels: int
    seconds: float
    counts: Mapping[str, int]
    files: Mapping[str, Written]


class LostBlockError(Exception):
    """A block that is needed has no record, or a file that is not what its record says.

    Attributes:
        step, cell: the block.
        file: that is missing or damaged.
        reason: what was found.
    """

    def __init__(self, step: str, cell: Zyx, file: str, reason: str) -> None:
        """The block of `step` at `cell` has to be computed again."""
        super().__init__(f"{file} of {step} block {cell_name(cell)}: {reason}")
        self.step, self.cell, self.file, self.reason = step, cell, file, reason


def encode(step: str, cell: Zyx, record: Record) -> bytes:
    """The content of the file of a block's record."""
    line = json.dumps({"block": f"{step} {cell_name(cell)}"} | vars(record)).encode()
    return b'%s\n"%08x"\n' % (line, checksum(line))


def decode(content: bytes, step: str, cell: Zyx) -> Record | None:
    """The record of a block; None where it is damaged, or another block's."""
    line, _, rest = content.partition(b"\n")
    if rest != b'"%08x"\n' % checksum(line):
        return None
    found = json.loads(line)
    if found.pop("block", None) != f"{step} {cell_name(cell)}":
        return None
    files = {name: Written(*written) for name, written in found.pop("files").items()}
    return Record(**found, files=files)


def read(files: Files, step: str, cell: Zyx) -> Record | None:
    """The record of a block, whatever its identity; None where there is none."""
    try:
        return decode(files.read(record_name(step, cell)), step, cell)
    except FileNotFoundError:
        return None


def write(files: Files, step: str, cell: Zyx, record: Record) -> None:
    """Write the record of a block: from now on it is done."""
    files.write(record_name(step, cell), encode(step, cell, record))
