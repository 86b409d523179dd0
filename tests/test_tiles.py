"""Tiles: a grid from the volume's origin, each with the same context whichever block asks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg import config as configs
from cadseg.blocks import Grid, Roi, Zyx
from cadseg.errors import ConfigError
from cadseg.models.network import Needs
from cadseg.models.tiles import Tiling, check, seen

FEW = settings(max_examples=60)
STRIDE = 16
sides = st.integers(1, 90)
shapes = st.tuples(st.integers(1, 5), sides, sides)
tile_shapes = st.tuples(st.integers(1, 3), *[st.sampled_from([16, 32, 48])] * 2)
halos = st.sampled_from([0, 16, 32])
contexts = st.tuples(st.integers(0, 4), st.integers(0, 4))
mirrors = st.tuples(*[st.booleans()] * 3)


def needs(mirrored: tuple[bool, bool, bool] = (True, False, False), **other: object) -> Needs:
    """What a student needs, or a network like it."""
    default = {"context": ((1, 0), (9, 9), (9, 9)), "multiple": (1, STRIDE, STRIDE)}
    return Needs(mirrored=mirrored, bytes_per_voxel=1, **default | other)  # type: ignore[arg-type]


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    """Tiles of any volume, with any halo."""
    halo = (draw(contexts), *[(draw(halos), draw(halos)) for _ in range(2)])
    return Tiling(draw(shapes), draw(tile_shapes), halo, needs(draw(mirrors)))


def whole(shape: Zyx) -> Roi:
    """All of a volume."""
    return Roi((0, 0, 0), shape)


@FEW
@given(tiling=tilings())
def test_tiles_cover_every_voxel_once(tiling: Tiling) -> None:
    """Each voxel is asked of one tile."""
    count = np.zeros([n + 100 for n in tiling.shape], int)
    for tile in tiling.tiles(whole(tiling.shape)):
        count[tile.core.slices()] += 1
    assert (count[whole(tiling.shape).slices()] == 1).all()


@FEW
@given(tiling=tilings(), block=st.tuples(st.integers(1, 3), *[st.integers(5, 70)] * 2))
def test_a_block_asks_tiles_of_the_volume(tiling: Tiling, block: Zyx) -> None:
    """A block's tiles are those of the whole volume that meet it, with the same windows."""
    everything = set(tiling.tiles(whole(tiling.shape)))
    grid = Grid(tiling.shape, whole(tiling.shape), block)
    for cell in grid.cells(0):
        write = grid.block(0, cell).write
        found = list(tiling.tiles(write))
        assert set(found) == {t for t in everything if t.core.clipped(write).size}
        assert len(found) == len(set(found))


@FEW
@given(tiling=tilings())
def test_windows_reach_the_halo_or_the_border(tiling: Tiling) -> None:
    """A tile sees its halo on every side; where the network pads, up to the padded border."""
    for tile in tiling.tiles(whole(tiling.shape)):
        for axis, (lower, upper) in enumerate(tiling.halo):
            low, high = tile.core.begin[axis] - lower, tile.core.end[axis] + upper
            multiple = tiling.needs.multiple[axis]
            if not tiling.needs.mirrored[axis]:
                border = -(-tiling.shape[axis] // multiple) * multiple
                low, high = max(0, low), min(border, high)
            assert (tile.window.begin[axis], tile.window.end[axis]) == (low, high)
            assert (high - low) % multiple == 0
            assert high - low in tiling.lengths(axis)


@FEW
@given(tiling=tilings(), seed=st.integers(0, 99))
def test_a_window_is_a_part_of_one_volume(tiling: Tiling, seed: int) -> None:
    """With any halo, a tile sees a window of the volume padded once, by reflection at its ends."""
    raw = np.random.default_rng(seed).integers(0, 256, tiling.shape).astype(np.uint8)
    far = 90
    everything = np.pad(raw, far, mode="reflect")
    read = 0

    def part(box: Roi) -> np.ndarray:  # type: ignore[type-arg]
        nonlocal read
        assert whole(tiling.shape).contains(box)
        read += box.size
        return raw[box.slices()]

    for tile in tiling.tiles(whole(tiling.shape)):
        expected = everything[tile.window.slices((-far, -far, -far))]
        np.testing.assert_array_equal(seen(tile.window, tiling.shape, part), expected)
    assert tiling.voxels_read(whole(tiling.shape)) == read


@FEW
@given(tiling=tilings(), roi=st.tuples(*[st.tuples(st.integers(0, 99), st.integers(1, 99))] * 3))
def test_answers_lie_where_they_were_asked(
    tiling: Tiling, roi: tuple[tuple[int, int], ...]
) -> None:
    """A network that answers with what it sees gives the volume, whatever part is asked for."""
    raw = np.random.default_rng(0).integers(0, 256, tiling.shape).astype(np.uint8)
    begin = tuple(b % n for (b, _), n in zip(roi, tiling.shape, strict=True))
    end = tuple(min(n, b + m) for b, (_, m), n in zip(begin, roi, tiling.shape, strict=True))
    box = Roi(begin, end)  # type: ignore[arg-type]
    below, above = tiling.halo[0] if tiling.needs.mirrored[0] else (0, 0)

    def answer(window: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.stack([window[below : len(window) - above]] * 3)

    found, count = tiling.predicted(box, lambda part: raw[part.slices()], answer)
    np.testing.assert_array_equal(found, np.stack([raw[box.slices()]] * 3))
    assert count == len(list(tiling.tiles(box)))


FIXED = needs((False, True, True), lengths=(None, (96, 96), (64, 200)))
TIED = needs(context=((1, 0), (9, 9), None))


@pytest.mark.parametrize(
    ("changes", "network", "sentence"),
    [
        ({}, needs(), None),
        ({"tile": (50, 64)}, needs(), "predict.tile is 50, 64; .* multiples of 16, 16"),
        ({"halo": 40}, needs(), "predict.halo is 40; .* multiples of 16"),
        ({"batch": 3}, needs(multiple=(2, 16, 16)), "predict.batch is 3; .* multiples of 2"),
        ({"halo": 0}, needs(), "predict.halo is 0, .* 9 voxels, .* accepted are 16 and more, or"),
        ({"halo": 0, "exact_tiling": False}, needs(), None),
        ({}, TIED, "depend on the size of tiles .* or predict.exact_tiling=false"),
        ({"exact_tiling": False}, TIED, None),
        ({}, FIXED, None),
        ({"halo": 32}, FIXED, "windows of 96 voxels along y, .*tile 64 and predict.halo 32 .* 128"),
        ({"tile": (64, 192)}, FIXED, "of 64 to 200 voxels along x, .* of 224"),
        ({"batch": 8}, needs(lengths=((2, 5), None, None)), "2 to 5 voxels along z, .* of 9"),
    ],
)
def test_tiles_that_do_not_fit(
    changes: dict[str, object], network: Needs, sentence: str | None
) -> None:
    """Each problem is one sentence, with the key; what has none is accepted."""
    config = configs.load("ssem").predict.model_copy(
        update={"tile": (64, 64), "halo": 16, "batch": 1, "exact_tiling": True, **changes}
    )
    if sentence is None:
        check(config, network, (30, 300, 300))
        return
    with pytest.raises(ConfigError, match=sentence) as caught:
        check(config, network, (30, 300, 300))
    assert "default-ssem" in str(caught.value)
