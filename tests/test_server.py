"""The order of blocks: which there are, and which of them wait for which."""

from __future__ import annotations

import daisy.v2 as daisy
import numpy as np
import toy_run
from funlib.geometry.roi import Roi as DaisyRoi
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.blocks import Grid, Roi
from cadseg.pipeline.execution.done import Done
from cadseg.pipeline.execution.serial import needs, unfinished
from cadseg.pipeline.execution.server import geometry
from cadseg.pipeline.execution.waves import finished, waves

sizes = st.integers(1, 40)
halos = st.tuples(*[st.integers(0, 7)] * 3)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """A grid whose domain begins and ends anywhere."""
    shape = draw(st.tuples(sizes, sizes, sizes))
    begin = tuple(draw(st.integers(0, n - 1)) for n in shape)
    end = tuple(draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True))
    return Grid(shape, Roi(begin, end), draw(st.tuples(*[st.integers(3, 12)] * 3)))


@settings(deadline=None, max_examples=50)
@given(grid=grids(), level=st.integers(0, 2), halo=halos)
def test_daisy_writes_every_cell_once(grid: Grid, level: int, halo: tuple[int, int, int]) -> None:
    """The blocks that daisy plans are the cells of the grid, border and halo or not."""
    step = toy_run.step("a", level=level, halo=halo)
    total, read, write = (
        DaisyRoi(r.begin, r.shape) for r in geometry(grid, step, *grid.span(level))
    )
    plan = daisy.BlockwiseDependencyGraph("a", read, write, False, "overhang", total)
    begins = [block.write_roi.begin for block, _ in plan.enumerate_all_dependencies()]
    shape = grid.cell_shape(level)
    cells = [tuple(b // n for b, n in zip(begin, shape, strict=True)) for begin in begins]
    assert sorted(cells) == list(grid.cells(level))


@settings(deadline=None, max_examples=50)
@given(grid=grids(), level=st.integers(0, 2), halo=halos, up=st.integers(0, 2))
def test_a_block_needs_what_it_reads(
    grid: Grid, level: int, halo: tuple[int, int, int], up: int
) -> None:
    """The blocks that a block waits for are those with a voxel that it reads."""
    step, upstream = toy_run.step("b", level=level, halo=halo), toy_run.step("a", level=up)
    for cell in grid.cells(level):
        read = grid.block(level, cell, halo).read
        others = grid.cells(up)
        expected = [c for c in others if grid.block(up, c).write.clipped(read).size]
        assert list(needs(grid, step, cell, upstream)) == expected


def test_a_finished_step_is_left_out_and_its_order_kept() -> None:
    """What comes after a finished step waits for what comes before it."""
    grid = Grid((8, 8, 8), Roi((0, 0, 0), (8, 8, 8)), (8, 8, 8))
    steps = [toy_run.step("c", "b"), toy_run.step("b", "a", "elsewhere"), toy_run.step("a")]
    one = {(0, 0, 0)}
    found = unfinished(grid, steps, {"a": set(), "b": one, "c": set()})
    assert [(step.name, step.after) for step in found] == [("a", ()), ("c", ("a",))]
    assert unfinished(grid, steps, {"a": one, "b": one, "c": one}) == []


@settings(deadline=None, max_examples=50)
@given(grid=grids(), seed=st.integers(0, 9), most=st.integers(1, 60))
def test_waves_are_bounded_and_complete(grid: Grid, seed: int, most: int) -> None:
    """Every block that is not done is in one wave, none of them too large, after what it reads."""
    steps = [toy_run.step("a"), toy_run.step("b", "a", level=1), toy_run.step("c", "b", "a")]
    done = {step.name: Done(grid, step.level) for step in steps}
    for found in done.values():
        found.mask[...] = np.random.default_rng(seed).random(found.mask.shape) < seed / 10
    seen = {name: found.mask.copy() for name, found in done.items()}
    for wave in waves(grid, steps, done, most):
        masks = [done[part.step.name].mask for part in wave]
        layer = max(mask.size // max(mask.shape) for mask in masks)
        assert sum(part.done.size for part in wave) <= max(most, layer)
        for part in wave:
            here = [other.step.name for other in wave]
            assert set(part.step.after) == set(here) & set(
                next(step.after for step in steps if step.name == part.step.name)
            )
            begin, _ = grid.span(part.step.level)
            box = Roi(part.begin, part.end).slices(begin)
            assert not (seen[part.step.name][box] > part.done).any()
            seen[part.step.name][box] = 1
            assert not finished(wave)
        order = [part.step.name for part in wave]
        assert order == sorted(order)
    assert all(mask.all() for mask in seen.values())
