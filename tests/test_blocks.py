"""The grid: its blocks tile the volume, its levels nest, and boxes do what boxes do."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.blocks import Grid, Roi, Zyx, cell_name, open_sides, zyx

lengths = st.integers(1, 13)
shapes = st.tuples(lengths, lengths, lengths)
corners = st.tuples(*[st.integers(-5, 15)] * 3)


@st.composite
def boxes(draw: st.DrawFn) -> Roi:
    """Boxes anywhere, empty ones too."""
    begin, shape = draw(corners), draw(st.tuples(*[st.integers(0, 9)] * 3))
    return Roi(begin, zyx(b + n for b, n in zip(begin, shape, strict=True)))


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Grids over a part of a volume, blocks smaller or larger than it."""
    shape = draw(shapes)
    begin = zyx(draw(st.integers(0, n - 1)) for n in shape)
    end = zyx(draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True))
    return Grid(shape, Roi(begin, end), draw(st.tuples(*[st.integers(1, 6)] * 3)))


def counted(grid: Grid, rois: list[Roi]) -> np.ndarray[Zyx, np.dtype[np.int64]]:
    """How many of the boxes hold each voxel of the volume."""
    count = np.zeros(grid.shape, int)
    for roi in rois:
        assert grid.volume.contains(roi)
        count[roi.slices()] += 1
    return count


# boxes -----------------------------------------------------------------------------------------


def members(roi: Roi) -> set[Zyx]:
    z, y, x = (range(b, e) for b, e in zip(roi.begin, roi.end, strict=True))
    return {(i, j, k) for i in z for j in y for k in x}


@given(one=boxes(), other=boxes())
@settings(max_examples=60)
def test_clipping_leaves_the_common_voxels(one: Roi, other: Roi) -> None:
    """A clipped box holds exactly the voxels of both, and lies in the other."""
    clipped = one.clipped(other)
    assert members(clipped) == members(one) & members(other)
    assert other.contains(clipped)
    assert clipped.size == len(members(clipped))


@given(one=boxes(), other=boxes())
@settings(max_examples=60)
def test_a_box_contains_what_lies_in_it(one: Roi, other: Roi) -> None:
    """A box that is not empty is contained where all its voxels are."""
    if other.size:
        assert one.contains(other) == (members(other) <= members(one))


def test_a_grown_box_reaches_further() -> None:
    """Growing moves both corners outwards, each side by its own length."""
    assert Roi((4, 5, 6), (7, 8, 9)).grown((1, 2, 3), (0, 1, 2)) == Roi((3, 3, 3), (7, 9, 11))


def test_slices_count_from_the_array_s_first_voxel() -> None:
    """A box taken from an array that begins elsewhere is the same voxels."""
    volume = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    roi = Roi((2, 2, 3), (4, 4, 6))
    part = volume[1:, 2:, 1:]
    np.testing.assert_array_equal(part[roi.slices((1, 2, 1))], volume[roi.slices()])
    assert volume[roi.slices()].shape == roi.shape


def test_a_box_is_written_as_the_command_line_reads_it() -> None:
    """Begin and end per axis, as in --roi."""
    assert str(Roi((1, 2, 3), (4, 5, 6))) == "1:4,2:5,3:6"


# grids -----------------------------------------------------------------------------------------


@given(grid=grids(), level=st.integers(0, 3))
@settings(max_examples=60)
def test_blocks_tile_the_domain(grid: Grid, level: int) -> None:
    """At every level each voxel of the domain is computed by one block, and no other voxel."""
    blocks = [grid.block(level, cell) for cell in grid.cells(level)]
    count = counted(grid, [block.write for block in blocks])
    expected = np.zeros(grid.shape, int)
    expected[grid.domain.slices()] = 1
    np.testing.assert_array_equal(count, expected)
    assert len(blocks) == grid.count(level)
    assert all(block.write.size for block in blocks)


@given(grid=grids(), level=st.integers(0, 3))
@settings(max_examples=60)
def test_covers_are_apart_and_cover_the_domain(grid: Grid, level: int) -> None:
    """What blocks alone may write never overlaps; a block computes only what it may write."""
    blocks = [grid.block(level, cell) for cell in grid.cells(level)]
    count = counted(grid, [block.cover for block in blocks])
    assert count.max() == 1
    assert (count[grid.domain.slices()] == 1).all()
    assert all(block.cover.contains(block.write) for block in blocks)


@given(grid=grids(), level=st.integers(0, 2))
@settings(max_examples=60)
def test_covers_do_not_depend_on_the_domain(grid: Grid, level: int) -> None:
    """The grid is anchored at the volume's origin: a roi takes blocks away, and moves none."""
    whole = Grid(grid.shape, grid.volume, grid.block_shape)
    all_covers = {cell: whole.block(level, cell).cover for cell in whole.cells(level)}
    for cell in grid.cells(level):
        cover = grid.block(level, cell).cover
        assert cover == all_covers[cell]
        shape = grid.cell_shape(level)
        assert cover.begin == zyx(c * n for c, n in zip(cell, shape, strict=True))


@given(grid=grids(), level=st.integers(1, 4))
@settings(max_examples=60)
def test_children_partition_their_parents(grid: Grid, level: int) -> None:
    """Each cell has one parent, whose voxels are its children's."""
    seen = []
    for cell in grid.cells(level):
        children = grid.children(level, cell)
        seen += children
        assert all(grid.parent(child) == cell for child in children)
        together = sum(grid.block(level - 1, child).write.size for child in children)
        assert together == grid.block(level, cell).write.size
    assert sorted(seen) == list(grid.cells(level - 1))


@given(grid=grids())
@settings(max_examples=60)
def test_the_top_is_the_first_level_of_one_block(grid: Grid) -> None:
    """One block holds everything at the top, and not below."""
    (cell,) = grid.cells(grid.top)
    assert grid.block(grid.top, cell).write == grid.domain
    assert all(grid.count(level) > 1 for level in range(grid.top))


@given(grid=grids(), halo=st.tuples(*[st.integers(0, 4)] * 3))
@settings(max_examples=60)
def test_reads_reach_the_halo_or_the_domain_s_border(grid: Grid, halo: Zyx) -> None:
    """A block reads all voxels of the domain within the halo of what it computes, and no other."""
    for cell in grid.cells(0):
        block = grid.block(0, cell, halo)
        for axis in range(3):
            begin, end = grid.domain.begin[axis], grid.domain.end[axis]
            assert block.read.begin[axis] == max(begin, block.write.begin[axis] - halo[axis])
            assert block.read.end[axis] == min(end, block.write.end[axis] + halo[axis])


@given(grid=grids())
@settings(max_examples=60)
def test_open_sides_are_those_with_a_neighbour(grid: Grid) -> None:
    """A side is open exactly where another block lies beyond it."""
    blocks = [grid.block(0, cell) for cell in grid.cells(0)]
    touching = set()
    for one, other in combinations(blocks, 2):
        step = np.subtract(other.cell, one.cell)
        if abs(step).sum() == 1:
            axis = int(np.argmax(abs(step)))
            touching.add((one.cell, axis, 1))
            touching.add((other.cell, axis, 0))
    found = {
        (b.cell, axis, side) for b in blocks for axis, side in open_sides(b.write, grid.domain)
    }
    assert found == touching


def test_names_of_cells_are_unique() -> None:
    """A cell's name is its place in the grid."""
    grid = Grid((20, 30, 40), Roi((0, 0, 0), (20, 30, 40)), (3, 7, 40))
    names = [cell_name(cell) for cell in grid.cells(0)]
    assert len(set(names)) == len(names) == grid.count(0)
    assert cell_name((1, 2, 0)) == "1.2.0"


@pytest.mark.parametrize("values", [(1, 2), (1, 2, 3, 4)])
def test_three_numbers_are_three(values: tuple[int, ...]) -> None:
    """Coordinates are three, never fewer or more."""
    with pytest.raises(ValueError, match="values to unpack"):
        zyx(values)
