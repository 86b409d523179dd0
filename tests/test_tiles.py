"""Tiles: a grid from the volume's origin, each with the same context whichever block asks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.blocks import Grid, Roi, Zyx
from cadseg.models.tiles import STRIDE, Tile, inside, padded, tiles

FEW = settings(max_examples=60)
sides = st.integers(1, 90)
shapes = st.tuples(st.integers(1, 3), sides, sides)
tile_shapes = st.tuples(*[st.sampled_from([16, 32, 48])] * 2)
halos = st.sampled_from([0, 16, 32])


def whole(shape: Zyx) -> Roi:
    return Roi((0, 0, 0), shape)


@FEW
@given(shape=shapes, tile=tile_shapes, halo=halos)
def test_tiles_cover_every_voxel_once(shape: Zyx, tile: tuple[int, int], halo: int) -> None:
    """Each voxel of a section is asked of one tile."""
    count = np.zeros((shape[1] + 100, shape[2] + 100), int)
    for found in tiles(whole(shape), shape, tile=tile, halo=halo):
        (y0, y1), (x0, x1) = found.core
        count[y0:y1, x0:x1] += 1
    assert (count[: shape[1], : shape[2]] == 1).all()


@FEW
@given(
    shape=shapes,
    block=st.tuples(st.integers(1, 3), *[st.integers(5, 70)] * 2),
    tile=tile_shapes,
    halo=halos,
)
def test_a_block_asks_tiles_of_the_volume(
    shape: Zyx, block: Zyx, tile: tuple[int, int], halo: int
) -> None:
    """A block's tiles are those of the whole volume that meet it, with the same windows."""
    everything = set(tiles(whole(shape), shape, tile=tile, halo=halo))
    grid = Grid(shape, whole(shape), block)
    for cell in grid.cells(0):
        write = grid.block(0, cell).write
        found = list(tiles(write, shape, tile=tile, halo=halo))
        meets = {t for t in everything if core(t).clipped(write).size}
        assert set(found) == meets
        assert len(found) == len(meets)


def core(tile: Tile) -> Roi:
    (y0, y1), (x0, x1) = tile.core
    return Roi((0, y0, x0), (100, y1, x1))


@FEW
@given(shape=shapes, tile=tile_shapes, halo=halos)
def test_windows_reach_the_halo_or_the_border(shape: Zyx, tile: tuple[int, int], halo: int) -> None:
    """A tile sees its halo on every side, up to the padded volume's border, in whole strides."""
    for found in tiles(whole(shape), shape, tile=tile, halo=halo):
        for (begin, end), (low, high), n in zip(found.core, found.window, shape[1:], strict=True):
            border = -(-n // STRIDE) * STRIDE
            assert (low, high) == (max(0, begin - halo), min(border, end + halo))
            assert low % STRIDE == high % STRIDE == 0
            assert high >= min(end, n)


@FEW
@given(shape=shapes, tile=tile_shapes, halo=st.sampled_from([STRIDE, 32]), seed=st.integers(0, 99))
def test_padding_is_the_volume_s_own(
    shape: Zyx, tile: tuple[int, int], halo: int, seed: int
) -> None:
    """With any halo, a tile sees a window of the volume padded once, by reflection at its ends."""
    raw = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    ends = [-n % STRIDE for n in shape[1:]]
    everything = np.pad(raw, [(0, 0), (0, ends[0]), (0, ends[1])], mode="reflect")
    for found in tiles(whole(shape), shape, tile=tile, halo=halo):
        box = inside(found, (0, shape[0]), shape)
        assert whole(shape).contains(box)
        (y0, y1), (x0, x1) = found.window
        seen = padded(raw[box.slices()], found)
        np.testing.assert_array_equal(seen, everything[:, y0:y1, x0:x1])
