"""Kernels that are given damaged numbers: they raise, or give some result, and do no harm.

Kernels index arrays without looking. `NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=/tmp/checked pytest
tests/test_damaged_numbers.py` makes them look: then an index beyond an array fails these tests.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.agglomeration import merge_tree, segment_table, waterz
from cadseg.agglomeration.agglomerate import agglomerate
from cadseg.agglomeration.scoring import METHODS, Scoring
from cadseg.blocks import Roi
from cadseg.fragments.climb import climb
from cadseg.graph.cluster_graph import Graph, joined_columns
from cadseg.graph.edges import Edges, Pairs, edges_of, pairs_inside
from cadseg.graph.faces import Faces, outer_faces
from cadseg.renaming import Renaming
from cadseg.storage.scratch import Scratch

Array = np.ndarray[Any, Any]
Table = dict[str, Array]
MANY = settings(max_examples=100, deadline=None)
DAMAGE = ("one value", "all values", "order", "length", "again")
VALUES = (0, 1, 255, 2**32 - 1, 2**32, 2**56, 2**63, 2**64 - 1)


def rng_of(draw: st.DrawFn) -> np.random.Generator:
    """What makes a table."""
    return np.random.default_rng(draw(st.integers(0, 10**6)))


def damaged(draw: st.DrawFn, table: Table) -> Table:
    """The table with up to three faults, or none."""
    table = {name: column.copy() for name, column in table.items()}
    for how in draw(st.lists(st.sampled_from(DAMAGE), max_size=3)):
        name = draw(st.sampled_from(sorted(table)))
        column = table[name]
        if how == "length":
            table[name] = column[: draw(st.integers(0, column.size))]
        elif column.size:
            at, other = (draw(st.integers(0, column.size - 1)) for _ in range(2))
            value = draw(st.sampled_from(VALUES)) & int(np.iinfo(column.dtype).max)
            if how == "one value":
                column[at] = value
            elif how == "all values":
                column[:] = value
            elif how == "again":
                column[at] = column[other]
            else:
                column[[at, other]] = column[[other, at]]
    return table


@st.composite
def graphs(draw: st.DrawFn) -> Table:
    """Columns of a graph, with histograms or without, and their faults."""
    rng = rng_of(draw)
    ends = np.unique(rng.integers(1, 12, (draw(st.integers(0, 30)), 2), np.uint64), axis=0)
    u, v = ends[ends[:, 0] < ends[:, 1]].T.copy()
    count = rng.integers(1, 9, u.size, np.uint64)
    width = rng.integers(1, 4, u.size, np.uint32) * draw(st.booleans())
    bins = [np.sort(rng.choice(256, n, replace=False)).astype(np.uint32) for n in width]
    table = {"u": u, "v": v, "key_u": u, "key_v": v, "sum": count * np.uint64(7), "count": count}
    table |= {"width": width, "bin": np.concatenate([np.empty(0, np.uint32), *bins])}
    table["bin_count"] = rng.integers(1, 5, int(width.sum()), np.uint64)
    return damaged(draw, table)


@pytest.mark.parametrize("scoring", METHODS)
@MANY
@given(found=st.lists(graphs(), min_size=1, max_size=3), data=st.data())
def test_graphs(scoring: str, found: list[Table], data: st.DataObject) -> None:
    """Rows of children are joined and agglomerated, or refused."""
    rule, scratch = Scoring.of(scoring, "uint8"), Scratch()
    frozen = data.draw(st.lists(st.sampled_from([3, 5, 7, *VALUES])))
    with contextlib.suppress(ValueError):
        graph = Graph(**found[0])
        if data.draw(st.booleans()):
            graph = joined_columns([lambda name, t=t: [t[name]] for t in found], scratch)
        agglomerate(graph, np.array(frozen, np.uint64), scoring=rule, floor=0, scratch=scratch)


@MANY
@given(data=st.data())
def test_pairs(data: st.DataObject) -> None:
    """Contacts of numbers become edges, or are refused."""
    rng = data.draw(st.builds(np.random.default_rng, st.integers(0, 10**6)))
    size, names = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 9))
    ends = np.sort(rng.integers(0, max(names, 1), (size, 2), np.uint64), axis=1)
    pair = ends[:, 1] << np.uint64(32) | ends[:, 0]
    values = {"sum": pair.copy(), "count": pair.copy(), "max": ends[:, 0].astype(np.uint32)}
    table = data.draw(st.composite(damaged)({"pair": pair, **values}))
    with contextlib.suppress(ValueError):
        edges_of([Pairs(**table), Pairs(**table)], rng.integers(0, 2**63, names, np.uint64))


@MANY
@given(data=st.data())
def test_faces(data: st.DataObject) -> None:
    """Fragments on the faces of children are those of their parent, or are refused."""
    inner = Roi((0, 0, 0), (4, 4, 4))
    children = []
    for _ in range(data.draw(st.integers(1, 3))):
        fragment = np.arange(data.draw(st.integers(0, 9)), dtype=np.uint64)
        table = {"fragment": fragment, "faces": np.full(fragment.size, 0x2A, np.uint8)}
        faces = Faces(**data.draw(st.composite(damaged)(table)))
        children.append((inner, functools.partial(iter, [faces])))
    with contextlib.suppress(ValueError):
        outer_faces(children, inner, Roi((0, 0, 0), (8, 8, 8)), Scratch())


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_edges_for_waterz(data: st.DataObject) -> None:
    """Edges of fragments that a block does not hold are refused."""
    fragments = np.arange(1, 28, dtype=np.uint64).reshape(3, 3, 3) // np.uint64(4)
    u = np.array([1, 2, 3, 5], np.uint64)
    table = {"u": u, "v": u + np.uint64(1), "sum": u, "count": u, "max": u.astype(np.uint32)}
    edges = Edges(**data.draw(st.composite(damaged)(table)))
    rule, affinities = Scoring.of("mean", "uint8"), np.full((3, 3, 3, 3), 200, np.uint8)
    with contextlib.suppress(ValueError):
        waterz.agglomerate(affinities, fragments, edges, scoring=rule, floor=0)


@MANY
@given(data=st.data())
def test_voxels(data: st.DataObject) -> None:
    """Any heights are climbed, and any numbers have contacts."""
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    rng = data.draw(st.builds(np.random.default_rng, st.integers(0, 10**6)))
    extremes = np.array([-(2**31), -1, 0, 1, 2**31 - 1], np.int32)
    read = Roi((0, 0, 0), shape)
    begin = data.draw(st.tuples(*(st.integers(0, n - 1) for n in shape)))
    end = data.draw(st.tuples(*(st.integers(b + 1, n) for b, n in zip(begin, shape, strict=True))))
    dimensions = data.draw(st.sampled_from([2, 3]))
    climb(rng.choice(extremes, shape), read, Roi(begin, end), shape, dimensions=dimensions)
    numbers = rng.choice(np.array([0, 1, 2**31, 2**32 - 1], np.uint32), shape)
    assert pairs_inside(np.full((3, *shape), 255, np.uint8), numbers).pair.size <= 3


@MANY
@given(data=st.data())
def test_trees(data: st.DataObject) -> None:
    """Merges, clusters and names are followed, or refused."""
    rng = data.draw(st.builds(np.random.default_rng, st.integers(0, 10**6)))
    fragment = rng.permutation(np.arange(2, data.draw(st.integers(2, 12)), dtype=np.uint64))
    parent = np.array([rng.integers(1, f) for f in fragment], np.uint64)
    merges = data.draw(st.composite(damaged)({"fragment": fragment, "parent": parent}))
    ids = np.arange(1, fragment.size + 2, dtype=np.uint64)
    clusters = data.draw(st.composite(damaged)({"ids": ids, "voxels": ids.copy()}))
    size, scratch = merges["fragment"].size, Scratch()
    with contextlib.suppress(ValueError):
        merge_tree.small_sides(
            [merges], size, clusters["ids"], clusters["voxels"], least=3, scratch=scratch
        )
    with contextlib.suppress(ValueError):
        merge_tree.components({"u": merges["fragment"], "v": merges["parent"]}, scratch)
    names = Renaming(
        *data.draw(st.composite(damaged)({"ids": ids, "names": ids[::-1].copy()})).values()
    )
    with contextlib.suppress(ValueError):
        names.of(merges["fragment"])
    with contextlib.suppress(ValueError):
        names.follow()


@MANY
@given(data=st.data())
def test_segments(data: st.DataObject) -> None:
    """Voxels whose numbers stand for nothing, and rows of segments, are measured, or refused."""
    rng = data.draw(st.builds(np.random.default_rng, st.integers(0, 10**6)))
    ids = np.arange(5, dtype=np.uint64)
    box = Roi((0, 0, 0), (2, 3, 4))
    numbers = rng.integers(0, 5, box.shape, np.uint32).ravel()
    numbers = data.draw(st.composite(damaged)({"numbers": numbers}))["numbers"]
    if numbers.size == box.size:
        with contextlib.suppress(ValueError):
            segment_table.measured(numbers.reshape(box.shape), ids, ids, box, box.shape)
    rows = segment_table.measured(np.full(box.shape, 3, np.uint32), ids, ids, box, box.shape)
    parts = [data.draw(st.composite(damaged)(rows)) for _ in range(2)]
    with contextlib.suppress(ValueError):
        segment_table.joined(parts)
