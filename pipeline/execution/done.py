"""The blocks of one step that are done: a bit for each block, and what their records add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import zyx
from cadseg.pipeline.execution.attempt import Pace
from cadseg.workers.names import SUPER
from cadseg.workers.packs import MICRO, cells_of

if TYPE_CHECKING:
    from cadseg.blocks import Grid, Zyx
    from cadseg.storage.columns import Table


class Done:
    """A set of blocks of one level of the grid.

    Attributes:
        mask: a byte per block of the domain, 1 where it is done.
        voxels: of all these blocks.
        pace: of all these blocks.
    """

    def __init__(self, grid: Grid, level: int) -> None:
        """No block."""
        self._begin, self._end = grid.span(level)
        shape = zyx(e - b for b, e in zip(self._begin, self._end, strict=True))
        self.mask = np.zeros(shape, np.uint8)
        self.voxels = 0
        self.pace = Pace()
        self._count = 0

    def __len__(self) -> int:
        """How many blocks are done."""
        return self._count

    def __contains__(self, cell: Zyx) -> bool:
        """Whether a block is done."""
        return self.meets(cell) and bool(self.mask[self._place(cell)])

    def meets(self, cell: Zyx) -> bool:
        """Whether there is such a block."""
        return all(b <= c < e for b, c, e in zip(self._begin, cell, self._end, strict=True))

    def add(self, cell: Zyx, voxels: int) -> None:
        """A block that was not done is done."""
        self.mask[self._place(cell)] = 1
        self.voxels += voxels
        self._count += 1

    def add_rows(self, rows: Table) -> None:
        """Blocks that were not done are, by their records."""
        self.mask[tuple((cells_of(rows) - self._begin).T)] = 1
        self.voxels += int(rows["voxels"].sum())
        self._count += rows["z"].size
        if rows["z"].size:
            seconds = rows["micros"] / MICRO
            speeds = seconds / np.maximum(1, rows["voxels"])
            self.pace.seconds = max(self.pace.seconds, float(seconds.max()))
            self.pace.per_voxel = max(self.pace.per_voxel, float(speeds.max()))

    def within(self, above: Zyx) -> tuple[int, int]:
        """How many blocks of a super-cell are done, and how many there are."""
        part = self.mask[
            tuple(
                slice(max(0, a * SUPER - b), max(0, a * SUPER + SUPER - b))
                for a, b in zip(above, self._begin, strict=True)
            )
        ]
        return int(np.count_nonzero(part)), part.size

    def _place(self, cell: Zyx) -> Zyx:
        return zyx(c - b for c, b in zip(cell, self._begin, strict=True))
