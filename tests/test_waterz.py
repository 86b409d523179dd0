"""Laws of the alternative engine, and the one that it does not keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import waterz
import zarr
from hypothesis import given
from hypothesis import strategies as st
from in_memory import MemoryStore
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cadseg.agglomeration import mean_affinity, merge_tree
from cadseg.agglomeration.agglomerate import Merges
from cadseg.agglomeration.scoring import METHODS, Scoring
from cadseg.agglomeration.waterz import Contacts, forest
from cadseg.evaluation import metrics
from cadseg.pipeline import run
from cadseg.storage.scratch import Scratch

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.blocks import Zyx
    from cadseg.renaming import Renaming

Array = np.ndarray[Any, Any]

SCORING = Scoring.of("mean", np.uint8)
STEPS = mean_affinity.STEPS
THRESHOLDS = (0.0, 0.3, 0.5, 0.9, 1.0)


@pytest.fixture(scope="module")
def affinities(fib25_affinities: Array) -> Array:
    """A corner of the demo volume, [3, 16, 72, 72] uint8."""
    return fib25_affinities[:, :16, :72, :72].copy()


def store(affinities: Array, engine: str, scoring: str, block: Zyx, *overrides: str) -> MemoryStore:
    """A run, not begun yet."""
    changes = (f"agglomerate.engine={engine}", f"agglomerate.scoring={scoring}", *overrides)
    return MemoryStore(affinities, block_shape=block, overrides=changes)


def segments(done: MemoryStore) -> Array:
    return done.arrays["segmentation/0"]


def same_partition(a: Array, b: Array) -> bool:
    """Whether the ids of one stand for the ids of the other."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).shape[1]
    return bool(pairs == np.unique(a).size == np.unique(b).size)


# one block -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scoring", METHODS)
def test_one_block_is_waterz(affinities: Array, scoring: str) -> None:
    """With one block the cut at T is what waterz itself makes of the fragments, for every T."""
    done = store(affinities, "waterz", scoring, (16, 72, 72)).run_all()
    fragments = done.arrays["fragments"]
    ids, dense = np.unique(fragments, return_inverse=True)
    dense = dense.reshape(fragments.shape).astype(np.uint64) + np.uint64(ids[0] != 0)
    for grey in (31.5, 90.5, 127.5, 200.5):
        (expected,) = waterz.agglomerate(
            affinities.astype(np.float32) / 255,
            [1 - grey / (255 if scoring == "mean" else 256)],
            fragments=dense.copy(),
            scoring_function=METHODS[scoring].WATERZ,
        )
        found = cut(done, grey / 255)
        assert same_partition(found, expected)
        assert np.unique(found).size < ids.size


def cut(done: MemoryStore, threshold: float) -> Array:
    """The fragments of a run, as segments at `threshold`."""
    tree = Merges(**done.read_table("merges", done.grid.top, (0, 0, 0)))
    return components(tree, threshold).of(done.arrays["fragments"])


def test_one_block_is_ours_for_the_mean(affinities: Array) -> None:
    """With one block and the mean, where ties are few, waterz and we find the same segments."""
    shape = (16, 72, 72)
    ours = segments(store(affinities, "exact", "mean", shape).run_all())
    theirs = segments(store(affinities, "waterz", "mean", shape).run_all())
    assert metrics.scores(metrics.contingency(theirs, ours)).voi_sum < 0.01
    assert np.unique(ours).size > 50


def test_masked_voxels_stay_background() -> None:
    """Fragment 0 merges with nothing, and a block without fragments has nothing to merge."""
    mask = np.ones((1, 4, 20), np.uint8)
    mask[..., :10] = 0
    full = np.full((3, 1, 4, 20), 255, np.uint8)
    run_ = MemoryStore(
        full, block_shape=(1, 4, 10), mask=mask, overrides=("agglomerate.engine=waterz",)
    )
    found = segments(run_.run_all())
    assert (found[mask == 0] == 0).all()
    assert (found[mask != 0] == found[0, 0, 10]).all()
    assert found[0, 0, 10] != 0


# many blocks ---------------------------------------------------------------------------------


def two_rows(alike: int) -> Array:
    """Two cells, one above the other, that look like one over their first voxels.

    ::

        x  0      alike             400
           a a a a a a a a a a a a a a
           = = = = = . . . . . . . . .      = affinity 1   . affinity 0
           b b b b b b b b b b b b b b
    """
    affinities = np.full((3, 1, 2, 400), 255, np.uint8)
    affinities[1, 0, 1, alike:] = 0
    return affinities


@pytest.mark.parametrize(
    ("alike", "block", "count"), [(100, 400, 2), (100, 100, 1), (40, 50, 2), (40, 10, 1)]
)
def test_cutting_changes_the_result(alike: int, block: int, count: int) -> None:
    """The law that it breaks: a block takes what it sees, with its context, for the whole."""
    for engine, expected in (("exact", 2), ("waterz", count)):
        cells = store(two_rows(alike), engine, "mean", (1, 2, block), "segment.threshold=0.5")
        cells.take(np.array([1, 401], np.uint64).repeat(400).reshape(1, 2, 400))
        assert np.unique(segments(cells.run_all(first="fragments"))).size == expected


def test_segments_go_on_across_blocks(affinities: Array) -> None:
    """Contacts at the faces of blocks count as well, and every block is told what they join."""
    ours = segments(store(affinities, "exact", "mean", (16, 72, 72)).run_all())
    done = store(affinities, "waterz", "mean", (8, 24, 40)).run_all()
    assert metrics.scores(metrics.contingency(segments(done), ours)).voi_sum < 0.1
    assert np.array_equal(segments(done), cut(done, done.config.segment.threshold))


def test_order_of_blocks_changes_nothing(affinities: Array) -> None:
    """For one block shape, the order in which blocks are done changes no row and no voxel."""
    first, second = (
        store(affinities[:, :8], "waterz", "median", (8, 40, 40)).run_all(seed=s) for s in (1, 2)
    )
    for name, result in first.results.items():
        assert np.array_equal(result, second.results[name]), name


# the forest ----------------------------------------------------------------------------------


contacts = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([0, 80, 128, 230, 255])),
    max_size=40,
).map(lambda found: [(min(a, b), max(a, b), grey) for a, b, grey in found if a != b])


def table_of(rows: list[tuple[int, int, int]]) -> Contacts:
    u, v, grey = np.array(rows, np.uint64).reshape(-1, 3).T
    return Contacts(u, v, grey * np.uint64(STEPS), np.full_like(u, STEPS))


def components(tree: Merges, threshold: float) -> Renaming:
    """The segments that fragments become when a tree is cut at `threshold`."""
    lowest = SCORING.at_least(threshold)
    return merge_tree.cut(
        [vars(tree)], tree.fragment.size, threshold=lowest, scoring=SCORING, scratch=Scratch()
    )


def smallest(rows: list[tuple[int, int, int]], threshold: float) -> dict[int, int]:
    """The smallest fragment that each one is connected to by scores of at least `threshold`."""
    held = np.array([row[:2] for row in rows if row[2] >= threshold * 255], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(held)), held.T), shape=(13, 13))
    _, label = connected_components(graph, directed=False)
    first = [int(np.flatnonzero(label == one)[0]) for one in label]
    return {node: low for node, low in enumerate(first) if node != low}


@given(contacts, st.integers(1, 4))
def test_a_cut_is_connected_components(rows: list[tuple[int, int, int]], parts: int) -> None:
    """At every threshold, for contacts in any number of blocks, joined over two levels."""
    lower = [forest([table_of(rows[i::parts])], SCORING) for i in range(parts)]
    tree = forest([Contacts(t.parent, t.fragment, t.sum, t.count) for t in lower], SCORING)
    for threshold in THRESHOLDS:
        found = components(tree, threshold)
        assert dict(zip(*(ids.tolist() for ids in found), strict=True)) == smallest(rows, threshold)


@given(contacts)
def test_a_forest_is_a_merge_tree(rows: list[tuple[int, int, int]]) -> None:
    """A fragment ends once, in a smaller one, and scores never rise on the way to the root."""
    tree = forest([table_of(rows)], SCORING)
    assert np.unique(tree.fragment).size == tree.fragment.size
    assert (tree.parent < tree.fragment).all()
    score = dict(zip(tree.fragment.tolist(), tree.sum.tolist(), strict=True))
    for fragment, parent in zip(tree.fragment.tolist(), tree.parent.tolist(), strict=True):
        assert score.get(parent, 0) <= score[fragment]


# the run -------------------------------------------------------------------------------------


def test_nothing_is_printed(affinities: Array, capfd: pytest.CaptureFixture[str]) -> None:
    """What waterz prints, from Python and from C++, does not reach the output of a run."""
    done = store(affinities[:, :2, :24, :24], "waterz", "mean", (2, 24, 12)).run_all()
    assert segments(done).any()
    assert capfd.readouterr() == ("", "")
    print("and then it speaks again")
    assert capfd.readouterr().out == "and then it speaks again\n"


def test_a_run_and_its_thresholds(affinities: Array, tmp_path: Path) -> None:
    """On disk, block by block: a run relabelled at a threshold is the run at that threshold."""
    volume = tmp_path / "affinities.zarr"
    zarr.create_array(
        volume, data=affinities[:, :8, :40, :40], attributes={"voxel_size": [10, 10, 10]}
    )
    changes = ["agglomerate.engine=waterz", "block_shape=[8, 32, 32]", "segment.pyramid_levels=1"]
    execution = run.Execution(serial=True)
    found = {}
    for threshold in (0.3, 0.8):
        out = tmp_path / f"{threshold}.zarr"
        overrides = [*changes, f"segment.threshold={threshold}"]
        run.segment(str(volume), execution, out=out, overrides=overrides)
        found[threshold] = zarr.open_array(out / "segmentation" / "0")[:]
    assert np.unique(found[0.8]).size > np.unique(found[0.3]).size > 1
    run.relabel(tmp_path / "0.3.zarr", 0.8, execution)
    again = zarr.open_array(tmp_path / "0.3.zarr" / "segmentation" / "0")[:]
    assert np.array_equal(again, found[0.8])
