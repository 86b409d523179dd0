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


def files_of(step: Step, cells: Sequence[Zyx], pyramid: Sequence[Zyx]) -> list[list[str]]:
    """All files that a block of `step` may write, in an order: for each, its names for all `cells`.

    Args:
        step: of the blocks.
        cells: of the blocks, all in one super-cell; not empty.
        pyramid: per level of the segmentation, how much coarser it is than the volume.
    """
    found = []
    for array in step.kind.writes:
        kind = ARRAYS[array]
        factors = pyramid[step.level] if kind.pyramid else (1, 1, 1)
        name = f"{array}/{step.level}" if kind.pyramid else array
        before = shard_name(name, len(kind.lead))
        n, m, k = ((1 << step.level) // factor for factor in factors)  # shards of a block
        for i, j, h in itertools.product(range(n), range(m), range(k)):
            found.append([f"{before}{z * n + i}/{y * m + j}/{x * k + h}" for z, y, x in cells])
    users = [table for table in step.kind.tables if table in FOR_USERS]
    one = [table_name(table, step.level, cells[0]) for table in users]
    if len(users) < len(step.kind.tables):
        one.insert(0, columns_name(step.name, cells[0]))
    for name in one:
        folder, _, file = name.rpartition("/")
        suffix = file.removeprefix(cell_name(cells[0]))
        found.append([f"{folder}/{z}.{y}.{x}{suffix}" for z, y, x in cells])
    return found


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
