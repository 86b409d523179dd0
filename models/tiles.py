"""The network's tiles: a grid from the volume's origin, each seen through a window with context.

A tile's window is the tile grown by the halo. Where the network pads by itself, windows end at the
volume's border, after which the volume is padded, by reflection at its far ends, to the multiple
that the network needs; where it does not, the volume is mirrored endlessly, and windows do not end.
So what a tile sees depends on the tile alone, not on the block that asks for it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cadseg.blocks import Roi, Zyx, zyx
from cadseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cadseg.arrays import Bytes, Integers
    from cadseg.config import PredictConfig
    from cadseg.models.network import Needs

Span = tuple[int, int]

Slices = tuple[slice, ...]

AXES = "zyx"


def _all(result: Bytes, boxes: Sequence[Slices]) -> Iterable[int]:
    return range(len(boxes))


@dataclass(frozen=True)
class Tile:
    """One input of the network, and its answer, as boxes of the volume padded or mirrored."""

    core: Roi  # what it is asked for
    window: Roi  # what it sees
    origin: Zyx  # the first voxel of its answer


@dataclass(frozen=True)
class Tiling:
    """All tiles of a volume.

    Attributes:
        shape: of the volume.
        tile: voxels of a tile, z y x.
        halo: voxels that windows reach beyond a tile, lower and upper, per axis.
        needs: of the network.
    """

    shape: Zyx
    tile: Zyx
    halo: tuple[Span, Span, Span]
    needs: Needs

    @classmethod
    def of(cls, config: PredictConfig, needs: Needs, shape: Zyx) -> Tiling:
        """The tiles that a config asks for; along z, the halo is the network's context."""
        in_plane = (config.halo, config.halo)
        halo = (needs.sections, in_plane, in_plane)
        return cls(shape, (config.batch, *config.tile), halo, needs)

    def tiles(self, roi: Roi) -> Iterator[Tile]:
        """The tiles that meet the box `roi` of the volume."""
        spans = map(self._spans, range(3), roi.begin, roi.end)
        for axes in itertools.product(*spans):
            core, window = (_roi([pair[which] for pair in axes]) for which in (0, 1))
            z, y, x = window.begin
            yield Tile(core, window, (z + self._context[0], y, x))

    def predicted(
        self,
        roi: Roi,
        read: Callable[[Roi], Bytes],
        predict: Callable[[Bytes], Bytes],
        missing: Callable[[Bytes, Sequence[Slices]], Iterable[int]] = _all,
    ) -> tuple[Bytes, int]:
        """Affinities [3, z, y, x] of the box `roi`, and of how many tiles it is made.

        Args:
            roi: of the volume.
            read: grey values of a box of the volume.
            predict: affinities [3, z, y, x] of a window.
            missing: given the result and the boxes of its tiles, which of them to predict, one
                after the other; it may put the others in their place.
        """
        out, tiles = np.empty((3, *roi.shape), np.uint8), list(self.tiles(roi))
        boxes = [(slice(None), *tile.core.clipped(roi).slices(roi.begin)) for tile in tiles]
        for number in missing(out, boxes):
            tile = tiles[number]
            found = predict(seen(tile.window, self.shape, read))
            out[boxes[number]] = found[(slice(None), *tile.core.clipped(roi).slices(tile.origin))]
        return out, len(tiles)

    def lengths(self, axis: int) -> set[int]:
        """Lengths of windows along one axis."""
        return {end - begin for _, (begin, end) in self._spans(axis, 0, self.shape[axis])}

    def voxels_read(self, roi: Roi) -> int:
        """Voxels of the volume that are read for the tiles that meet `roi`, all together."""
        sums = []
        for axis, n in enumerate(self.shape):
            windows = (span for _, span in self._spans(axis, roi.begin[axis], roi.end[axis]))
            sums.append(sum(int(np.ptp(_reflected(*window, n))) + 1 for window in windows))
        return math.prod(sums)

    def memory(self) -> int:
        """Bytes that the network has at work on its largest window, an upper bound."""
        lengths = [max(self.lengths(axis)) for axis in range(3)]
        lengths[0] -= sum(self._context)
        return self.needs.bytes_per_voxel * math.prod(lengths)

    @property
    def _context(self) -> Span:
        """Sections of a window that its answer lacks, lower and upper."""
        return self.halo[0] if self.needs.mirrored[0] else (0, 0)

    def _spans(self, axis: int, begin: int, end: int) -> Iterator[tuple[Span, Span]]:
        """Along one axis, the tiles that meet a span: each with its window."""
        tile, multiple = self.tile[axis], self.needs.multiple[axis]
        lower, upper = self.halo[axis]
        last = -(-self.shape[axis] // multiple) * multiple
        for first in range(begin // tile * tile, end, tile):
            low, high = first - lower, first + tile + upper
            if not self.needs.mirrored[axis]:
                low, high = max(0, low), min(last, high)
            yield (first, first + tile), (low, high)


def seen(window: Roi, shape: Zyx, read: Callable[[Roi], Bytes]) -> Bytes:
    """Grey values [z, y, x] of a window, where it leaves the volume of `shape` by reflection."""
    axes = list(map(_reflected, window.begin, window.end, shape))
    box = _roi([(int(places.min()), int(places.max()) + 1) for places in axes])
    raw = read(box)
    return raw[np.ix_(*(places - b for places, b in zip(axes, box.begin, strict=True)))]


def _reflected(begin: int, end: int, length: int) -> Integers:
    """Places in an axis of `length`, repeated by reflection at its ends."""
    period = max(1, 2 * (length - 1))
    places = np.arange(begin, end) % period
    return np.minimum(places, period - places) % length


def check(config: PredictConfig, needs: Needs, shape: Zyx) -> None:
    """Refuse tiles that the network does not take, or whose size would show in the result.

    Raises:
        ConfigError: with the key that has to change.
    """
    z, y, x = needs.multiple
    _check_multiple("batch", (config.batch,), (z,), config.weights)
    _check_multiple("tile", config.tile, (y, x), config.weights)
    _check_multiple("halo", (config.halo,), (math.lcm(y, x),), config.weights)
    tiling = Tiling.of(config, needs, shape)
    for axis, taken in enumerate(needs.lengths):
        for length in tiling.lengths(axis):
            if taken and not taken[0] <= length <= taken[1]:
                raise ConfigError(
                    f"weights {config.weights} take windows of {_range(taken)} voxels along "
                    f"{AXES[axis]}, but with {_keys(config, tiling, axis)} there is one of {length}"
                )
    if config.exact_tiling:
        _check_exact(config, needs)


def _check_multiple(
    key: str, values: tuple[int, ...], multiples: tuple[int, ...], weights: str
) -> None:
    if any(value % multiple for value, multiple in zip(values, multiples, strict=True)):
        found, accepted = (", ".join(map(str, numbers)) for numbers in (values, multiples))
        raise ConfigError(
            f"predict.{key} is {found}; accepted with weights {weights} are multiples of {accepted}"
        )


def _check_exact(config: PredictConfig, needs: Needs) -> None:
    """Refuse what makes results depend on the size of tiles."""
    for context in needs.context[1:]:
        if context is None:
            raise ConfigError(
                f"weights {config.weights} give affinities that depend on the size of tiles (as "
                "networks with align_corners do), which predict.exact_tiling refuses; accepted are "
                "other weights, or predict.exact_tiling=false"
            )
        if config.halo < max(context):
            multiple = math.lcm(*needs.multiple[1:])
            raise ConfigError(
                f"predict.halo is {config.halo}, less than the context of weights "
                f"{config.weights}, {max(context)} voxels, so that borders of tiles would show; "
                f"accepted are {-(-max(context) // multiple) * multiple} and more, or "
                "predict.exact_tiling=false"
            )


def _range(taken: Span) -> str:
    return str(taken[0]) if taken[0] == taken[1] else f"{taken[0]} to {taken[1]}"


def _keys(config: PredictConfig, tiling: Tiling, axis: int) -> str:
    """The config's keys that make windows as long as they are along an axis."""
    if axis == 0:
        return f"predict.batch {config.batch} and {sum(tiling.halo[0])} sections of context"
    return f"predict.tile {config.tile[axis - 1]} and predict.halo {config.halo}"


def _roi(spans: list[Span]) -> Roi:
    return Roi(zyx(begin for begin, _ in spans), zyx(end for _, end in spans))
