"""The network's tiles: a grid in y and x from the volume's origin, each with a halo of context.

The halo ends at the volume's border, which is where the network sees its own zero padding. The
volume is first padded, by reflection at its far ends, to a multiple of the network's stride. So
what a tile sees depends on the tile alone, not on the block that asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.blocks import Roi, Zyx

if TYPE_CHECKING:
    from collections.abc import Iterator

STRIDE = 16
"""The network halves its input four times."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """One network input, as spans in y and x of the padded volume."""

    core: tuple[Span, Span]  # what it is asked for
    window: tuple[Span, Span]  # what it sees


def tiles(write: Roi, shape: Zyx, *, tile: Span, halo: int) -> Iterator[Tile]:
    """The tiles of a volume of `shape` that meet the block `write`."""
    for y in range(write.begin[1] // tile[0] * tile[0], write.end[1], tile[0]):
        for x in range(write.begin[2] // tile[1] * tile[1], write.end[2], tile[1]):
            core = ((y, y + tile[0]), (x, x + tile[1]))
            yield Tile(core, (_window(core[0], shape[1], halo), _window(core[1], shape[2], halo)))


def inside(tile: Tile, sections: Span, shape: Zyx) -> Roi:
    """The part of the tile's window that lies in the volume, in these sections."""
    (y0, y1), (x0, x1) = tile.window
    return Roi((sections[0], y0, x0), (sections[1], min(y1, shape[1]), min(x1, shape[2])))


def padded(raw: np.ndarray[Any, Any], tile: Tile) -> np.ndarray[Any, Any]:
    """`raw` [z, y, x], the window's part in the volume, padded to the whole window."""
    missing = [end - begin - n for (begin, end), n in zip(tile.window, raw.shape[1:], strict=True)]
    return np.pad(raw, [(0, 0), *((0, n) for n in missing)], mode="reflect")


def _window(core: Span, length: int, halo: int) -> Span:
    end = -(-length // STRIDE) * STRIDE
    return max(0, core[0] - halo), min(end, core[1] + halo)
