"""All index arithmetic: boxes of voxels, and the nested grid that divides a volume into blocks.

Coordinates are voxels of the raw volume, axis order z, y, x; boxes are half-open. Blocks lie on a
grid that is anchored at the volume's origin, whatever part of the volume is asked for (the
*domain*): a block is a cell of the grid, and what it writes is the cell clipped to the domain.
Level k of the grid has cells twice as long per axis as level k - 1.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsInt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Zyx = tuple[int, int, int]


def zyx(values: Iterable[SupportsInt | str]) -> Zyx:
    """Any three numbers as a tuple of three ints."""
    z, y, x = values
    return int(z), int(y), int(x)


@dataclass(frozen=True)
class Roi:
    """Half-open box ``begin <= p < end``, in voxels, z y x."""

    begin: Zyx
    end: Zyx

    @property
    def shape(self) -> Zyx:
        """Lengths per axis; 0 where the box is empty."""
        return zyx(max(0, e - b) for b, e in zip(self.begin, self.end, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    def slices(self, origin: Zyx = (0, 0, 0)) -> tuple[slice, slice, slice]:
        """Slices of this box in an array whose first voxel is `origin`."""
        z, y, x = (
            slice(b - o, e - o) for b, e, o in zip(self.begin, self.end, origin, strict=True)
        )
        return z, y, x

    def grown(self, lower: Zyx, upper: Zyx) -> Roi:
        """The box extended by `lower` voxels below and by `upper` voxels above."""
        return Roi(
            zyx(b - g for b, g in zip(self.begin, lower, strict=True)),
            zyx(e + g for e, g in zip(self.end, upper, strict=True)),
        )

    def clipped(self, to: Roi) -> Roi:
        """The intersection with `to`; empty boxes keep a place within it."""
        begin = zyx(
            min(max(b, tb), te) for b, tb, te in zip(self.begin, to.begin, to.end, strict=True)
        )
        end = zyx(max(min(e, te), b) for e, te, b in zip(self.end, to.end, begin, strict=True))
        return Roi(begin, end)

    def contains(self, other: Roi) -> bool:
        """Whether every voxel of `other` lies in this box."""
        return self.clipped(other) == other

    def __str__(self) -> str:
        """The box as the command line writes it: ``z0:z1,y0:y1,x0:x1``."""
        return ",".join(f"{b}:{e}" for b, e in zip(self.begin, self.end, strict=True))


def cell_name(cell: Zyx) -> str:
    """A cell as it is written in names of files and in messages: ``z.y.x``."""
    return ".".join(map(str, cell))


@dataclass(frozen=True)
class Block:
    """One unit of work: a cell of the grid."""

    level: int
    cell: Zyx
    cover: Roi  # the cell clipped to the volume: what this block alone may write
    write: Roi  # the cell clipped to the domain: what it computes
    read: Roi  # `write` grown by the halo, clipped to the domain


@dataclass(frozen=True)
class Grid:
    """The nested grid of blocks over a volume.

    Attributes:
        shape: of the volume, in voxels.
        domain: the part of the volume to segment.
        block_shape: of a cell at level 0, in voxels.
    """

    shape: Zyx
    domain: Roi
    block_shape: Zyx

    @property
    def volume(self) -> Roi:
        """The whole volume as a box."""
        return Roi((0, 0, 0), self.shape)

    def cell_shape(self, level: int) -> Zyx:
        """Voxels per cell at `level`."""
        return zyx(n << level for n in self.block_shape)

    def span(self, level: int) -> tuple[Zyx, Zyx]:
        """First cell and one past the last cell that meet the domain."""
        shape = self.cell_shape(level)
        return (
            zyx(b // n for b, n in zip(self.domain.begin, shape, strict=True)),
            zyx(-(-e // n) for e, n in zip(self.domain.end, shape, strict=True)),
        )

    def cells(self, level: int) -> Iterator[Zyx]:
        """All cells at `level`, in z y x order."""
        begin, end = self.span(level)
        for cell in itertools.product(*(range(b, e) for b, e in zip(begin, end, strict=True))):
            yield zyx(cell)

    def count(self, level: int) -> int:
        """Number of cells at `level`."""
        begin, end = self.span(level)
        return math.prod(e - b for b, e in zip(begin, end, strict=True))

    @property
    def top(self) -> int:
        """The first level at which one cell holds the whole domain."""
        return next(level for level in itertools.count() if self.count(level) == 1)

    def block(self, level: int, cell: Zyx, halo: Zyx = (0, 0, 0)) -> Block:
        """The block at `cell`; reads reach `halo` voxels beyond what it computes."""
        shape = self.cell_shape(level)
        begin = zyx(c * n for c, n in zip(cell, shape, strict=True))
        whole = Roi(begin, zyx(b + n for b, n in zip(begin, shape, strict=True)))
        write = whole.clipped(self.domain)
        return Block(
            level=level,
            cell=cell,
            cover=whole.clipped(self.volume),
            write=write,
            read=write.grown(halo, halo).clipped(self.domain),
        )

    def children(self, level: int, cell: Zyx) -> list[Zyx]:
        """The cells at `level` - 1 inside `cell` that meet the domain, in z y x order."""
        begin, end = self.span(level - 1)
        ranges = (
            range(max(2 * c, b), min(2 * c + 2, e))
            for c, b, e in zip(cell, begin, end, strict=True)
        )
        return [zyx(child) for child in itertools.product(*ranges)]

    @staticmethod
    def parent(cell: Zyx) -> Zyx:
        """The cell of the next level that holds `cell`."""
        return zyx(c // 2 for c in cell)


def pieces(roi: Roi, shape: Zyx) -> Iterator[Roi]:
    """The box cut, from its first corner on, into boxes of at most `shape`."""
    steps = (range(b, e, n) for b, e, n in zip(roi.begin, roi.end, shape, strict=True))
    for begin in itertools.product(*steps):
        yield Roi(zyx(begin), zyx(begin)).grown((0, 0, 0), shape).clipped(roi)


def open_sides(write: Roi, domain: Roi) -> list[tuple[int, int]]:
    """Faces of a block inside the domain: (axis, 0 for its lower or 1 for its upper face)."""
    lower = [(axis, 0) for axis in range(3) if write.begin[axis] > domain.begin[axis]]
    upper = [(axis, 1) for axis in range(3) if write.end[axis] < domain.end[axis]]
    return lower + upper
