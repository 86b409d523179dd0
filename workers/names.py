"""Where the files of blocks lie: names of records and tables in a run's folder.

A *super-cell* is 16 cells per axis. Names of blocks are divided among folders by super-cells, so
that no folder has more than 4096 of them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from cadseg.blocks import Zyx, cell_name, zyx
from cadseg.storage.outputs import shard_name
from cadseg.workers.arrays import ARRAYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cadseg.storage.files import Files
    from cadseg.workers.step import Step

SUPER = 16
"""Cells per axis of a super-cell."""

FOR_USERS = ("edges", "merges", "segments")
"""Tables that are Parquet files of their own."""


def super_cell(cell: Zyx) -> Zyx:
    """The super-cell that holds a cell."""
    return zyx(c // SUPER for c in cell)


def divided(folder: str, cell: Zyx, suffix: str) -> str:
    """Name of a block's file in `folder`."""
    return f"{folder}/{cell_name(super_cell(cell))}/{cell_name(cell)}{suffix}"


def record_name(step: str, cell: Zyx) -> str:
    """Name of the record of one block."""
    return divided(f"records/{step}", cell, ".json")


def pack_name(step: str, above: Zyx) -> str:
    """Name of the packed records of a super-cell."""
    return f"records/{step}/{cell_name(above)}.columns"


def columns_name(step: str, cell: Zyx) -> str:
    """Name of the tables of one block that only cadseg reads."""
    return divided(f"tables/{step}", cell, ".columns")


def table_folder(kind: str) -> str:
    """Folder of a table for users, of all blocks."""
    return kind if kind == "segments" else f"graph/{kind}"


def table_name(kind: str, level: int, cell: Zyx) -> str:
    """Name of a table for users, of one block."""
    return divided(f"{table_folder(kind)}/level-{level}", cell, ".parquet")


def files_of(step: Step, cell: Zyx, pyramid: Sequence[Zyx]) -> list[str]:
    """All files that a block of `step` may write, as many and in the same order for all blocks.

    Args:
        step: of the block.
        cell: of the block.
        pyramid: per level of the segmentation, how much coarser it is than the volume.
    """
    names = []
    for array in step.kind.writes:
        kind = ARRAYS[array]
        factors = pyramid[step.level] if kind.pyramid else (1, 1, 1)
        name = f"{array}/{step.level}" if kind.pyramid else array
        counts = zyx((1 << step.level) // factor for factor in factors)
        ranges = (range(c * n, c * n + n) for c, n in zip(cell, counts, strict=True))
        lead = len(kind.lead)
        names += [shard_name(name, lead, zyx(shard)) for shard in itertools.product(*ranges)]
    users = [table for table in step.kind.tables if table in FOR_USERS]
    if len(users) < len(step.kind.tables):
        names.append(columns_name(step.name, cell))
    return names + [table_name(table, step.level, cell) for table in users]


def cell_of(name: str) -> Zyx | None:
    """The cell that a name ``z.y.x`` or ``z.y.x.suffix`` names; None where it names none."""
    parts = name.split(".")[:3]
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        return None
    return zyx(parts)


def listed(files: Files, folder: str, suffix: str) -> Iterator[Zyx]:
    """The cells that have a file in `folder`."""
    for above in files.list(folder):
        for name in files.list(f"{folder}/{above}") if cell_of(above) else ():
            cell = cell_of(name)
            if cell is not None and name == f"{cell_name(cell)}{suffix}":
                yield cell
