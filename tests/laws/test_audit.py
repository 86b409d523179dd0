"""An audit of the graph: what touches in the array is in the graph, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from in_memory import MemoryStore

from cadseg.blocks import Roi, zyx

Array = np.ndarray[Any, Any]

BLOCK = (7, 61, 50)


@pytest.fixture(scope="module")
def cut(fib25_affinities: Array) -> MemoryStore:
    """The real crop in blocks, with a mask, under a roi that begins and ends within them."""
    mask = np.ones((32, 152, 152), np.uint8)
    mask[4:20, 50:70, 90:160] = 0
    store = MemoryStore(
        fib25_affinities, block_shape=BLOCK, roi=Roi((3, 10, 0), (30, 150, 140)), mask=mask
    )
    return store.run_all(seed=1)


def contacts(store: MemoryStore, axis: int, upper: Roi) -> dict[tuple[int, int], list[int]]:
    """Affinities of all pairs of touching fragments along `axis`, by the voxels above."""
    step = zyx(int(a == axis) for a in range(3))
    lower = Roi(
        zyx(np.subtract(upper.begin, step)),
        zyx(np.subtract(upper.end, step)),
    )
    ids = store.arrays["fragments"]
    above, below = ids[upper.slices()].ravel(), ids[lower.slices()].ravel()
    affinities = store.affinities[axis][upper.slices()].ravel()
    found: dict[tuple[int, int], list[int]] = {}
    for a, b, affinity in zip(above.tolist(), below.tolist(), affinities.tolist(), strict=True):
        if a != b and a and b:
            found.setdefault((min(a, b), max(a, b)), []).append(affinity)
    return found


def faces(store: MemoryStore) -> list[tuple[int, Roi]]:
    """All faces between blocks: axis, and the voxels just above."""
    domain = store.grid.domain
    found = []
    for cell in store.grid.cells(0):
        block = store.grid.block(0, cell).write
        for axis in range(3):
            if block.begin[axis] > domain.begin[axis]:
                end = list(block.end)
                end[axis] = block.begin[axis] + 1
                found.append((axis, Roi(block.begin, zyx(end))))
    return found


def test_fragments_that_touch_across_a_face_have_an_edge(cut: MemoryStore) -> None:
    """Sampled faces between blocks: each pair that touches there is in the graph, well counted."""
    graph = {(u, v): (s, n, m) for u, v, s, n, m in cut.edges().tolist()}
    sampled = np.random.default_rng(0).permutation(np.array(faces(cut), object))[:25]
    assert {axis for axis, _ in sampled} == {0, 1, 2}
    seen = 0
    for axis, face in sampled:
        for pair, affinities in contacts(cut, axis, face).items():
            total, count, largest = graph[pair]
            assert total >= sum(affinities)
            assert count >= len(affinities)
            assert largest >= max(affinities)
            seen += 1
    assert seen > 100


def test_the_graph_is_all_contacts_of_the_array(cut: MemoryStore) -> None:
    """Pair by pair, the blocks' rows joined are the sums, counts and maxima of the whole array."""
    literal: dict[tuple[int, int], list[int]] = {}
    domain = cut.grid.domain
    for axis in range(3):
        begin = list(domain.begin)
        begin[axis] += 1
        for pair, affinities in contacts(cut, axis, Roi(zyx(begin), domain.end)).items():
            literal.setdefault(pair, []).extend(affinities)
    expected = [(u, v, sum(a), len(a), max(a)) for (u, v), a in sorted(literal.items())]
    np.testing.assert_array_equal(cut.edges(), np.array(expected, np.uint64))


def test_no_pair_of_voxels_is_counted_twice(cut: MemoryStore) -> None:
    """The contacts of all blocks are as many as the voxel pairs of two fragments."""
    ids = cut.arrays["fragments"][cut.grid.domain.slices()]
    pairs = 0
    for axis in range(3):
        above, below = np.moveaxis(ids, axis, 0)[1:], np.moveaxis(ids, axis, 0)[:-1]
        pairs += int(((above != below) & (above != 0) & (below != 0)).sum())
    assert cut.edges()[:, 3].sum() == pairs
