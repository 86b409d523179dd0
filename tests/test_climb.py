"""Fragments: basins of a climb, joined across blocks by following paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cadseg.blocks import Grid, Roi, Zyx, zyx
from cadseg.fragments.climb import REACH, Climb, climb, coordinates, on_faces, within
from cadseg.fragments.heights import heights
from cadseg.renaming import Renaming

Array = np.ndarray[Any, Any]
FEW = settings(max_examples=30, deadline=None)
DIMENSIONS = st.sampled_from([2, 3])


def whole(shape: Zyx) -> Roi:
    return Roi((0, 0, 0), shape)


def ids_of(field: Array, mask: Array | None = None, dimensions: int = 2) -> Array:
    """Fragments of a volume climbed in one block."""
    box = whole(zyx(field.shape))
    found = climb(field, box, box, box.shape, mask, dimensions=dimensions)
    assert not found.exits.size
    assert not found.entries.size
    return named(found)


def named(found: Climb) -> Array:
    """The labels of a climb as ids."""
    return np.append(np.uint64(0), found.ids)[found.labels]


@st.composite
def fields(draw: st.DrawFn) -> Array:
    """Heights full of plateaus."""
    shape = draw(st.tuples(*[st.integers(1, 10)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return rng.integers(0, draw(st.integers(1, 6)), shape).astype(np.int32)


@FEW
@given(field=fields(), seed=st.integers(0, 99), masked=st.booleans(), dimensions=DIMENSIONS)
def test_basins_are_the_literal_ones(
    field: Array, seed: int, masked: bool, dimensions: int
) -> None:
    """Climbing every voxel on its own, one step after the other, gives the same fragments."""
    mask = np.random.default_rng(seed).random(field.shape) > 0.2 if masked else None
    shape = zyx(field.shape)
    np.testing.assert_array_equal(
        ids_of(field, mask, dimensions),
        oracle.fragments(field, (0, 0, 0), shape, mask, dimensions),
    )


@FEW
@given(field=fields(), seed=st.integers(0, 99), dimensions=DIMENSIONS)
def test_numbers_of_a_block_are_compact(field: Array, seed: int, dimensions: int) -> None:
    """Labels count from 1 in the order of their first voxels, and no two stand for one id."""
    mask = np.random.default_rng(seed).random(field.shape) > 0.2
    box = whole(zyx(field.shape))
    found = climb(field, box, box, box.shape, mask, dimensions=dimensions)
    numbers, first = np.unique(found.labels[found.labels != 0], return_index=True)
    assert numbers.tolist() == list(range(1, found.ids.size + 1))
    assert (np.diff(first) > 0).all()
    assert np.unique(found.ids).size == found.ids.size


def test_fragments_are_connected_and_hold_their_top(fib25_affinities: Array) -> None:
    """A fragment is one piece of one section, named by its best voxel's place, plus one."""
    field = heights(
        np.ascontiguousarray(fib25_affinities[1:, :3, :80, :80]),
        distance_clip=24,
        sigma=1.0,
        boundary_weight=8.0,
    )
    ids = ids_of(field)
    names = np.unique(ids)
    assert names.size > 30
    for name in names.tolist():
        inside = ids == name
        assert ndimage.label(inside, np.ones((3, 3, 3)))[1] == 1
        z, y, x = np.unravel_index(name - 1, ids.shape)
        assert inside[z, y, x]
        assert field[z, y, x] == field[inside].max()
        assert (np.flatnonzero(inside.any(axis=(1, 2))) == z).all()


def test_no_fragment_reaches_through_a_mask() -> None:
    """A wall of masked voxels is background, and parts what it lies between."""
    field = np.tile(np.arange(12, dtype=np.int32), (1, 5, 1))
    mask = np.ones(field.shape, bool)
    mask[:, :, 6] = False
    ids = ids_of(field, mask)
    assert (ids[:, :, 6] == 0).all()
    assert not set(ids[:, :, :6].ravel()) & set(ids[:, :, 7:].ravel())
    assert (ids[mask] != 0).all()


# blocks ----------------------------------------------------------------------------------------


@st.composite
def cut_fields(draw: st.DrawFn) -> tuple[Array, Grid]:
    """Heights, and a grid that cuts them."""
    field = draw(fields())
    return field, Grid(
        zyx(field.shape),
        whole(zyx(field.shape)),
        draw(st.tuples(*(st.integers(max(1, n // 3), n) for n in field.shape))),
    )


def climbs(field: Array, grid: Grid, dimensions: int) -> list[tuple[Roi, Climb]]:
    """All blocks, each climbed from what it reads alone."""
    found = []
    for cell in grid.cells(0):
        block = grid.block(0, cell, (REACH if dimensions == 3 else 0, REACH, REACH))
        here = np.ascontiguousarray(field[block.read.slices()])
        part = climb(here, block.read, block.write, grid.shape, dimensions=dimensions)
        found.append((block.write, part))
    return found


@FEW
@given(cut=cut_fields(), dimensions=DIMENSIONS)
def test_following_all_entries_gives_the_whole_climb(
    cut: tuple[Array, Grid], dimensions: int
) -> None:
    """Labels of blocks, sent along the entries of all blocks, are the fragments of one block."""
    field, grid = cut
    parts = climbs(field, grid, dimensions)
    entries = np.concatenate([part.entries for _, part in parts])
    labels = np.concatenate([part.entry_labels for _, part in parts])
    ends = Renaming.by_id(entries, labels)
    ends.follow()
    expected = ids_of(field, dimensions=dimensions)
    for write, part in parts:
        np.testing.assert_array_equal(ends.of(named(part)), expected[write.slices()])


@FEW
@given(cut=cut_fields(), dimensions=DIMENSIONS)
def test_every_exit_is_an_entry_of_another_block(cut: tuple[Array, Grid], dimensions: int) -> None:
    """Where a path leaves one block another one expects it, and no entry is without a path."""
    field, grid = cut
    parts = climbs(field, grid, dimensions)
    exits = {int(e) for _, part in parts for e in part.exits}
    entries = {int(e) for _, part in parts for e in part.entries}
    assert exits == entries
    for write, part in parts:
        assert within(part.entries, write, grid.shape).all()
        assert not within(part.exits, write, grid.shape).any()
        assert on_faces(part.entries, write, grid.domain, grid.shape).all()
        for ids in (part.exits, part.entries):
            assert (ids[1:] > ids[:-1]).all()


# tables of ids -----------------------------------------------------------------------------------


@given(shape=st.tuples(*[st.integers(1, 9)] * 3), data=st.data())
@FEW
def test_ids_and_voxels_are_one_another(shape: Zyx, data: st.DataObject) -> None:
    """Id to voxel and back is the identity, and an id lies in a box where its voxel does."""
    voxel = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    box = Roi((0, 0, 0), zyx(data.draw(st.integers(0, n)) for n in shape))
    id_ = np.array([oracle.number(zyx(voxel), (0, 0, 0), shape)], np.uint64)
    assert zyx(a[0] for a in coordinates(id_, shape)) == voxel
    assert within(id_, box, shape)[0] == all(v < e for v, e in zip(voxel, box.end, strict=True))
