"""Law 1: cutting changes nothing. The same bytes, ids included, for every block shape and order.

The uncut run is the literal method of `oracle`; a cut run is the uncut run.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import oracle
import pytest
from generated import THOROUGH, Case, block_shapes, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import MemoryStore

from cadseg.agglomeration.scoring import METHODS
from cadseg.blocks import Roi, Zyx

Array = np.ndarray[Any, Any]

EXAMPLES = settings(max_examples=300 if THOROUGH else 25)


def literal(case: Case) -> dict[str, Array]:
    """What the oracle makes of a case."""
    domain = case.domain
    affinities = case.affinities()[(slice(None), *domain.slices())]
    mask = case.mask()
    along = affinities[-case.dimensions :]
    field = oracle.heights(along, case.clip, case.sigma, case.boundary_weight)
    inside = None if mask is None else mask[domain.slices()]
    ids = oracle.fragments(field, domain.begin, case.shape, inside, case.dimensions)
    graph = oracle.edges(affinities, ids)
    merges = oracle.greedy(graph, case.scoring, case.lowest)
    segments = oracle.cut(ids, merges, Fraction(str(case.threshold)) * 255, case.min_voxels)
    return {
        "fragments": placed(ids, case),
        "edges": rows([(*pair, *contact) for pair, contact in graph.items()], 5),
        "merges": rows(merges, 6),
        "segmentation": placed(segments, case),
    }


def placed(part: Array, case: Case) -> Array:
    """The domain's voxels in the whole volume."""
    whole = np.zeros(case.shape, np.uint64)
    whole[case.domain.slices()] = part
    return whole


def rows(found: list[tuple[int, ...]], columns: int) -> Array:
    """Sorted rows."""
    return np.array(sorted(found), np.uint64).reshape(-1, columns)


def assert_same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    """Every result is the same, byte by byte."""
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name, strict=True)


# generated -----------------------------------------------------------------------------------


@EXAMPLES
@given(case=cases(largest=(3, 11, 12) if THOROUGH else (3, 8, 9)))
def test_the_uncut_run_is_the_method_as_written(case: Case) -> None:
    """One block gives what the slow, literal method gives: ids, contacts, merges, segments."""
    assert_same(case.store().run_all().results, literal(case))


@st.composite
def cuts(draw: st.DrawFn, largest: Zyx) -> tuple[Case, Zyx, int]:
    """A case, a block shape, and the seed of an order."""
    case = draw(cases(largest=largest))
    return case, draw(block_shapes(case.shape)), draw(st.integers(0, 99))


@EXAMPLES
@given(cut=cuts(largest=(9, 32, 40) if THOROUGH else (6, 24, 30)))
def test_cutting_changes_nothing(cut: tuple[Case, Zyx, int]) -> None:
    """Any block shape and order of blocks gives the bytes of one block, with roi and mask too."""
    case, block_shape, seed = cut
    results = case.store(block_shape).run_all(seed=seed).results
    assert_same(results, case.store().run_all().results)


@pytest.mark.parametrize("scoring", METHODS)
def test_one_long_plateau_is_one_fragment(scoring: str) -> None:
    """A voxel whose path leads through many blocks gets the id of a top that is far away."""
    affinities = np.full((3, 2, 6, 90), 255, np.uint8)
    store = MemoryStore(
        affinities, block_shape=(1, 4, 7), overrides=(f"agglomerate.scoring={scoring}",)
    ).run_all()
    for section, last in zip(store.arrays["fragments"], (540, 1080), strict=True):
        assert np.unique(section).tolist() == [last]  # the highest index of a section, plus one
    assert np.unique(store.arrays["segmentation/0"]).tolist() == [540]


def test_heights_near_a_block_are_those_of_the_volume() -> None:
    """What a block reads begins inside the volume: its first affinities are as they are.

    A wall (a column whose x affinity is 0) is the first that the second block reads. It lowers the
    heights of the block's outermost column by the last weight of the Gaussian, so that a path
    there leads into the block, and would lead away from it if the volume began at the wall.
    """
    affinities = np.full((3, 1, 3, 24), 255, np.uint8)
    begin, halo = 12, 6  # distance_clip - 1, four sigma, and two voxels for entries
    affinities[2, :, :, begin - halo] = 0
    affinities[1, :, :, begin - 1] = 200  # lower than its neighbours: paths go either way
    affinities[2, :, :, begin + halo - 2] = 0  # the same on the other side
    numbers = ("fragments.distance_clip=3", "fragments.sigma=0.5", "fragments.boundary_weight=2.0")
    runs = [
        MemoryStore(affinities, block_shape=(1, 3, length), overrides=numbers).run_all()
        for length in (24, begin)
    ]
    assert_same(runs[1].results, runs[0].results)
    assert runs[1].tables["entries", 0, (0, 0, 1)]["entry"].size


def test_ids_are_of_the_full_volume_and_nothing_lies_outside_a_roi() -> None:
    """Under a roi in the middle, ids count the whole volume's voxels, and all else stays 0."""
    roi = Roi((1, 5, 7), (4, 17, 25))
    case = Case(seed=3, shape=(5, 20, 30), roi=roi, smooth=1.0)
    results = case.store((2, 6, 9)).run_all().results
    inside = results["fragments"][roi.slices()]
    own = np.ravel_multi_index(np.mgrid[roi.slices()], case.shape).astype(np.uint64) + 1
    assert np.isin(inside, own).all()
    assert (inside == own).sum() == np.unique(inside).size  # every top is a voxel of its own id
    for name in ("fragments", "segmentation"):
        outside = results[name].copy()
        outside[roi.slices()] = 0
        assert not outside.any(), name


def test_masked_voxels_are_background_without_edges() -> None:
    """Where the mask is 0 the fragment is 0; everywhere else it is not, and 0 has no edge."""
    case = Case(seed=4, shape=(4, 20, 30), masked=True, smooth=1.0)
    store = case.store((2, 7, 9)).run_all()
    mask = case.mask()
    for name in ("fragments", "segmentation/0"):
        np.testing.assert_array_equal(store.arrays[name] != 0, mask != 0)
    assert store.edges()[:, :2].min() > 0


# real ----------------------------------------------------------------------------------------

BLOCKS = [(7, 61, 97), (10, 128, 128), (32, 40, 23), (5, 152, 50)]


@pytest.fixture(scope="module", params=[("mean", 2), ("median", 2), ("mean", 3)])
def real(request: pytest.FixtureRequest, fib25_affinities: Array) -> MemoryStore:
    """The real crop in one block."""
    return MemoryStore(
        fib25_affinities,
        block_shape=(32, 152, 152),
        overrides=(
            f"agglomerate.scoring={request.param[0]}",
            f"fragments.dimensions={request.param[1]}",
        ),
    ).run_all()


@pytest.mark.parametrize("block_shape", BLOCKS)
def test_cutting_a_real_volume_changes_nothing(real: MemoryStore, block_shape: Zyx) -> None:
    """A student's affinities give the same bytes in blocks of odd, even and flat shapes."""
    cut = MemoryStore(real.affinities, block_shape=block_shape)
    cut.use(real.config)
    assert_same(cut.run_all(seed=sum(block_shape)).results, real.results)


def test_the_cuts_of_the_real_volume_cut_something(real: MemoryStore) -> None:
    """Some fragments lie in three blocks or more, so that the laws above say something."""
    ids = real.arrays["fragments"]
    for block_shape in BLOCKS:
        cells = np.ravel_multi_index(
            tuple(i // n for i, n in zip(np.indices(ids.shape), block_shape, strict=True)),
            (32, 32, 32),
        )
        pairs = np.unique(ids << np.uint64(15) | cells.astype(np.uint64))
        blocks = np.unique(pairs >> np.uint64(15), return_counts=True)[1]
        assert (blocks >= 2).sum() > 20
        if block_shape[1:] != (152, 50):
            assert blocks.max() >= 3, block_shape
