"""Steps: what a run is made of, and the kinds of which they are.

A *step* is all blocks of one level of the grid, computed in one way: what daisy calls a task. Its
*kind* is that way: the function that computes a block, the arrays and tables that it reads and
writes, and what that costs. Every worker file ends with the row of its kind, and
`cadseg.workers.kinds` lists them; the plan of a run, the arrays that it creates, what is deleted
when a stage is redone, and the tables of docs/on-disk.md follow from these rows.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.blocks import Zyx, zyx

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.blocks import Block
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter

NOTHING: Zyx = (0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What all blocks of a step move, and what one of them needs.

    Attributes:
        memory: bytes that the largest block takes, beyond those of an idle worker.
        read: bytes of arrays that all blocks read, halos included, before compression.
        written: bytes of arrays that all blocks write, before compression.
        shards: files of arrays that all blocks write.
    """

    memory: int
    read: int = 0
    written: int = 0
    shards: int = 0


@dataclass(frozen=True, kw_only=True)
class StepKind:
    """One way to compute blocks.

    Attributes:
        name: of the kind, and of its worker's file.
        run: computes a block: reads, calls kernels, writes; returns counts for the done-record.
        cost: of a step of this kind.
        reads: arrays of the run that it reads.
        writes: arrays of the run that it writes, one shard per block.
        reads_tables: tables that it reads.
        tables: that it writes, one file per block each.
        on_levels: whether there is a step of this kind per level of the grid; else on level 0 only.
    """

    name: str
    run: Callable[[Block, Store, BlockWriter], dict[str, int]]
    cost: Callable[[Work], Cost]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    reads_tables: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    on_levels: bool = False


@dataclass(frozen=True)
class Step:
    """Blocks of one kind on one level.

    Attributes:
        kind: how a block is computed.
        stage: the stage that the step belongs to.
        level: of the grid whose cells are its blocks.
        halo: voxels that a block reads beyond its own, z y x.
        after: names of the steps whose blocks under what a block reads must be done first.
    """

    kind: StepKind
    stage: str
    level: int = 0
    halo: Zyx = NOTHING
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the step, unique in a run; the folder of its records."""
        return f"{self.kind.name}-{self.level}" if self.kind.on_levels else self.kind.name


@dataclass(frozen=True)
class Work:
    """How much a step has to do: the numbers of voxels from which its cost follows."""

    store: Store
    step: Step

    @property
    def largest(self) -> int:
        """Voxels that the largest block writes."""
        return self._largest_and_all[0]

    @property
    def voxels(self) -> int:
        """Voxels that all blocks write."""
        return self._largest_and_all[1]

    @property
    def largest_read(self) -> int:
        """Voxels of the largest block and its halo."""
        return self._with_halo[0]

    @property
    def voxels_read(self) -> int:
        """Voxels of all blocks and their halos: those in several halos count several times."""
        return self._with_halo[1]

    @property
    def blocks(self) -> int:
        """How many there are."""
        return self.store.grid.count(self.step.level)

    @property
    def lengths(self) -> Zyx:
        """Lengths of the largest block, z y x."""
        grid = self.store.grid
        cell = grid.cell_shape(self.step.level)
        return zyx(min(n, whole) for n, whole in zip(cell, grid.domain.shape, strict=True))

    @functools.cached_property
    def _largest_and_all(self) -> tuple[int, int]:
        return self._voxels(NOTHING)

    @functools.cached_property
    def _with_halo(self) -> tuple[int, int]:
        return self._voxels(self.step.halo)

    def _voxels(self, halo: Zyx) -> tuple[int, int]:
        """Voxels of the largest block with its halo, and of all blocks together."""
        grid, level = self.store.grid, self.step.level
        begin, end = grid.span(level)
        largest, total = 1, 1
        for axis in range(3):
            lengths = []
            for place in range(begin[axis], end[axis]):
                cell = zyx((*begin[:axis], place, *begin[axis + 1 :]))
                lengths.append(grid.block(level, cell, halo).read.shape[axis])
            largest *= max(lengths)
            total *= sum(lengths)
        return largest, total
