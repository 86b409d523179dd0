"""Edges: every pair of touching voxels once, whichever block it lies in; faces: what goes on."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import numbered, whole_edges
from scipy import ndimage

from cadseg.blocks import Block, Grid, Roi, Zyx, open_sides, zyx
from cadseg.graph.cluster_graph import from_edges, joined
from cadseg.graph.edges import (
    SLOTS,
    Edges,
    edges_of,
    pairs_across,
    pairs_inside,
)
from cadseg.graph.faces import Faces, faces_of, outer_faces
from cadseg.storage.scratch import Scratch

Array = np.ndarray[Any, Any]
FEW = settings(max_examples=30, deadline=None)


@st.composite
def volumes(draw: st.DrawFn) -> tuple[Array, Array]:
    """Affinities and fragments, large and small ids, 0 among them."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 8)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    names = np.array([0, 1, 2, 3, 2**40, 2**63 + 5], np.uint64)
    ids = rng.choice(names[: draw(st.integers(1, 6))], shape)
    dtype = draw(st.sampled_from([np.uint8, np.uint32]))
    return rng.integers(0, np.iinfo(dtype).max, (3, *shape), dtype, endpoint=True), ids


def rows(edges: Edges) -> dict[tuple[int, int], list[int]]:
    columns = (edges.u, edges.v, edges.sum, edges.count, edges.max)
    return {(u, v): c for u, v, *c in zip(*(c.tolist() for c in columns), strict=True)}


def block_edges(affinities: Array, ids: Array, block: Block, domain: Roi) -> tuple[Edges, Faces]:
    """What the block at `block` finds, inside it and across its lower faces."""
    names, numbers = numbered(ids)
    own = block.write.slices()
    parts = [pairs_inside(np.ascontiguousarray(affinities[(slice(None), *own)]), numbers[own])]
    faces = []
    for axis, side in open_sides(block.write, domain):
        plane = list(own)
        at = block.write.end[axis] - 1 if side else block.write.begin[axis]
        plane[axis] = at
        faces.append((axis, side, names[np.unique(numbers[tuple(plane)])]))
        if side == 0:
            below = list(plane)
            below[axis] = at - 1
            faces.append((axis, side, names[np.unique(numbers[tuple(below)])]))
            across = affinities[(axis, *plane)]
            parts.append(pairs_across(across, numbers[tuple(below)], numbers[tuple(plane)]))
    return edges_of(parts, names), faces_of(faces)


@FEW
@given(volume=volumes())
def test_edges_are_the_pairs_of_voxels(volume: tuple[Array, Array]) -> None:
    """Sums, counts and maxima are those that a loop over all voxel pairs finds; 0 has none."""
    affinities, ids = volume
    edges = whole_edges(affinities, ids)
    literal = {pair: list(contact) for pair, contact in oracle.edges(affinities, ids).items()}
    assert rows(edges) == literal
    assert list(rows(edges)) == sorted(literal)


def test_rows_of_one_pair_are_joined() -> None:
    """Numbers of one fragment share an edge to its neighbour, and have none among each other."""
    numbers = np.array([[[1, 2], [3, 3]]], np.uint32)
    affinities = np.array([[[[0, 0], [0, 0]]], [[[0, 0], [7, 9]]], [[[0, 5], [0, 0]]]], np.uint8)
    names = np.array([0, 4, 4, 6], np.uint64)
    pairs = pairs_inside(affinities, numbers)
    assert rows(edges_of([pairs, pairs], names)) == {(4, 6): [32, 4, 9]}


def test_hundreds_of_thousands_of_pairs_are_kept_apart() -> None:
    """Where every voxel is a fragment of its own, every pair of neighbours is an edge."""
    shape = (6, 50, 70)
    ids = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(np.uint64) + 1
    affinities = np.random.default_rng(1).integers(0, 256, (3, *shape)).astype(np.uint8)
    edges = whole_edges(affinities, ids)
    pairs = sum(np.prod(shape) // n * (n - 1) for n in shape)
    assert edges.u.size == pairs
    assert (edges.count == 1).all()
    inner = sum(int(np.moveaxis(affinities[a], a, 0)[1:].sum()) for a in range(3))
    assert edges.sum.sum() == edges.max.sum() == inner


def test_a_pair_met_again_after_tens_of_thousands_has_another_row() -> None:
    """The table of pairs met lately is emptied before it is full, and no contact is lost."""
    numbers = 3 + np.arange(22_000, dtype=np.uint32).reshape(1, 220, 100)  # two pairs per voxel
    numbers[0, 0, :2] = numbers[0, -1, -2:] = 1, 2
    affinities = np.full((3, *numbers.shape), 5, np.uint8)
    pairs = pairs_inside(affinities, numbers)
    assert SLOTS // 2 < pairs.pair.size < SLOTS  # the table is emptied once
    assert np.count_nonzero(pairs.pair == (2 << 32 | 1)) == 2
    edges = edges_of([pairs], np.arange(numbers.max() + 1, dtype=np.uint64))
    assert rows(edges)[1, 2] == [10, 2, 5]
    assert edges.u.size == pairs.pair.size - 1


@st.composite
def grids(draw: st.DrawFn, shape: Zyx) -> Grid:
    """Grids over a part of the volume."""
    begin = zyx(draw(st.integers(0, n - 1)) for n in shape)
    end = zyx(draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True))
    block = draw(st.tuples(*(st.integers(max(1, n // 3), n) for n in shape)))
    return Grid(shape, Roi(begin, end), block)


@FEW
@given(volume=volumes(), data=st.data())
def test_blocks_add_up(volume: tuple[Array, Array], data: st.DataObject) -> None:
    """The edges of all blocks, joined, are the edges of the domain in one block."""
    affinities, ids = volume
    grid = data.draw(grids(zyx(ids.shape)))
    blocks = [grid.block(0, cell) for cell in grid.cells(0)]
    parts = [block_edges(affinities, ids, block, grid.domain)[0] for block in blocks]
    together = joined([from_edges(part, part.max) for part in parts])
    box = grid.domain.slices()
    own = np.ascontiguousarray(affinities[(slice(None), *box)])
    expected = whole_edges(own, ids[box])
    for name in ("u", "v", "sum", "count"):
        np.testing.assert_array_equal(getattr(together, name), getattr(expected, name))
    np.testing.assert_array_equal(together.bin, expected.max)


# faces -------------------------------------------------------------------------------------------


def goes_on(ids: Array, fragment: int, write: Roi, domain: Roi) -> bool:
    """Whether a fragment has a voxel outside the block, or one that touches a voxel outside it."""
    inside = np.zeros(ids.shape, bool)
    inside[write.slices()] = True
    allowed = np.zeros(ids.shape, bool)
    allowed[domain.slices()] = True
    own = (ids == fragment) & allowed
    return bool((ndimage.binary_dilation(own) & allowed & ~inside).any())


@FEW
@given(volume=volumes(), data=st.data())
def test_frozen_is_what_goes_on_outside(volume: tuple[Array, Array], data: st.DataObject) -> None:
    """Of the fragments that a block knows, those on its faces have voxels or neighbours outside."""
    affinities, values = volume
    ids = pieces(values)
    grid = data.draw(grids(zyx(ids.shape)))
    ids = np.where(inside_of(grid), ids, 0)
    ids = np.where(inside_of(grid), pieces(ids), 0)
    for cell in grid.cells(0):
        block = grid.block(0, cell)
        edges, faces = block_edges(affinities, ids, block, grid.domain)
        known = {*ids[block.write.slices()].ravel().tolist(), *edges.u.tolist(), *edges.v.tolist()}
        for fragment in known - {0}:
            frozen = fragment in faces.fragment
            assert frozen == goes_on(ids, fragment, block.write, grid.domain)
        assert 0 not in faces.fragment
        assert faces.fragment.tolist() == sorted(set(faces.fragment.tolist()))


def pieces(ids: Array) -> Array:
    """Connected pieces, each with an id of its own; 0 stays."""
    out = np.zeros(ids.shape, np.uint64)
    for name in set(ids.ravel().tolist()) - {0}:
        labels, _ = ndimage.label(ids == name)
        out[labels > 0] = labels[labels > 0] + int(out.max())
    return out


def inside_of(grid: Grid) -> Array:
    """Which voxels lie in the domain."""
    inside = np.zeros(grid.shape, bool)
    inside[grid.domain.slices()] = True
    return inside


@pytest.mark.parametrize("shape", [(4, 6, 6)])
def test_free_fragments_are_not_frozen(shape: Zyx) -> None:
    """A fragment that touches no open face is not on the list: level 0 can merge it."""
    ids = np.arange(np.prod(shape), dtype=np.uint64).reshape(shape) + 1
    domain = Roi((0, 0, 0), shape)
    write = Roi((0, 0, 0), (4, 6, 3))
    block = Grid(shape, domain, write.shape).block(0, (0, 0, 0))
    _, faces = block_edges(np.zeros((3, *shape), np.uint8), ids, block, domain)
    assert faces.fragment.tolist() == sorted(ids[:, :, 2].ravel().tolist())
    assert set(faces.faces.tolist()) == {1 << 5}


@FEW
@given(volume=volumes(), data=st.data())
def test_outer_faces_are_those_of_the_larger_block(
    volume: tuple[Array, Array], data: st.DataObject
) -> None:
    """The faces of four or eight blocks together are the faces of the block that they make up."""
    affinities, ids = volume
    grid = data.draw(grids(zyx(ids.shape)))
    whole = Grid(grid.shape, grid.domain, grid.cell_shape(1))
    for cell in grid.cells(1):
        blocks = [grid.block(0, child) for child in grid.children(1, cell)]
        children = []
        for block in blocks:
            faces = block_edges(affinities, ids, block, grid.domain)[1]
            halves = [
                Faces(faces.fragment[part], faces.faces[part])
                for part in (slice(0, 2), slice(2, None))
            ]
            children.append((block.write, functools.partial(iter, halves)))
        parent = whole.block(0, cell)
        found = outer_faces(children, parent.write, grid.domain, Scratch())
        _, expected = block_edges(affinities, ids, parent, grid.domain)
        np.testing.assert_array_equal(found.fragment, expected.fragment)
        np.testing.assert_array_equal(found.faces, expected.faces)
