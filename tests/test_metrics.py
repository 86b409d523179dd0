"""Scores: what they are on a drawn case, and what does not change them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import adapted_rand_error, variation_of_information

from cadseg.blocks import Grid, Roi, Zyx
from cadseg.errors import VolumeError
from cadseg.evaluation import metrics
from cadseg.evaluation.metrics import contingency, scores, total
from cadseg.evaluation.render import colours, overlay

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]

labels = arrays(np.uint64, (3, 4, 5), elements=st.integers(0, 4))


def test_a_neuron_cut_in_half_costs_one_bit() -> None:
    """Halving each of two neurons costs a bit of split; joining them costs a bit of merge."""
    truth = np.array([[[1, 1, 1, 1, 2, 2, 2, 2]]])
    halves = np.array([[[1, 1, 3, 3, 4, 4, 5, 5]]])
    cut = scores(contingency(halves, truth))
    assert (cut.voi_split, cut.voi_merge) == (1, 0)
    # 4 of 12 true pairs are left: 1 - 2 * 4 / (4 + 12)
    assert cut.arand == pytest.approx(0.5)
    joined = scores(contingency(np.ones_like(truth), truth))
    assert (joined.voi_split, joined.voi_merge, joined.voi_sum) == (0, 1, 1)
    assert joined.arand == pytest.approx(1 - 2 * 12 / (28 + 12))
    same = scores(contingency(truth * 7, truth))
    assert (same.voi_sum, same.arand, same.voxels) == (0, 0, 8)


def test_only_the_truth_has_a_background() -> None:
    """Voxels whose truth is 0 are left out; segment 0 is a segment like any other."""
    truth = np.array([[[1, 1, 2, 2, 0, 0]]])
    assert scores(contingency(np.array([[[0, 0, 5, 5, 7, 8]]]), truth)).voi_sum == 0
    assert scores(contingency(np.array([[[0, 0, 0, 0, 7, 8]]]), truth)).voi_merge == 1


def test_the_background_may_be_negative(tmp_path: Path) -> None:
    """Voxels whose truth is below 0 are left out as those at 0 are."""
    truth = np.array([[[1, 1, 2, 2, 0, 0], [-1, -1, -1, -1, 3, 3]]], np.int16)
    for name, data in (("ours", truth + 1), ("truth", truth), ("clipped", truth.clip(0))):
        zarr.create_array(tmp_path / name, data=data)
    found = [
        metrics.evaluate(str(tmp_path / "ours"), str(tmp_path / name))
        for name in ("truth", "clipped")
    ]
    assert found[0] == found[1]
    assert found[0].voxels == 6


@given(segmentation=labels, truth=labels.filter(lambda a: (a > 0).sum() > 1))
def test_scores_are_those_of_scikit_image(segmentation: Array, truth: Array) -> None:
    """On random labels the scores equal scikit-image's."""
    ours = scores(contingency(segmentation, truth))
    known = truth != 0
    reference = truth[known].astype(int), segmentation[known].astype(int)
    split, merge = variation_of_information(*reference)
    assert (ours.voi_split, ours.voi_merge) == pytest.approx((split, merge), abs=1e-9)
    with np.errstate(invalid="ignore"):
        error, _, _ = adapted_rand_error(*reference)
    assert ours.arand == pytest.approx(0 if math.isnan(error) else error, abs=1e-9)


def test_scores_of_real_neurons_are_those_of_scikit_image(fib25_labels: Array) -> None:
    """On real neurons, cut at planes, the scores equal scikit-image's."""
    _, y, x = np.indices(fib25_labels.shape)
    pieces = fib25_labels * 9 + (y > 99) * 3 + (x > 120) * (fib25_labels % 2)
    ours = scores(contingency(pieces, fib25_labels))
    split, merge = variation_of_information(fib25_labels, pieces, ignore_labels=(0,))
    assert (ours.voi_split, ours.voi_merge) == pytest.approx((split, merge), abs=1e-9)
    error, _, _ = adapted_rand_error(fib25_labels.astype(int), pieces.astype(int))
    assert ours.arand == pytest.approx(error, abs=1e-9)


@pytest.mark.parametrize("block", [(32, 250, 250), (5, 64, 100), (32, 7, 250)])
def test_cutting_changes_nothing(fib25_labels: Array, block: Zyx) -> None:
    """Counts of blocks add up to the counts of the whole, to the last digit of the scores."""
    shifted = np.roll(fib25_labels, 9, axis=2)
    grid = Grid((32, 250, 250), Roi((0, 0, 0), (32, 250, 250)), block)
    boxes = [grid.block(0, cell).write.slices() for cell in grid.cells(0)]
    parts = total(contingency(shifted[b], fib25_labels[b]) for b in boxes)
    whole = contingency(shifted, fib25_labels)
    for column in ("segment", "truth", "voxels"):
        assert getattr(parts, column).tolist() == getattr(whole, column).tolist()


@given(segmentation=labels, truth=labels.filter(np.any), seed=st.integers(0, 99))
def test_names_change_nothing(segmentation: Array, truth: Array, seed: int) -> None:
    """Other ids for the same segments give the same scores, to the last digit."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(5).astype(np.uint64) * np.uint64(2**50)
    neurons = np.concatenate([[0], 1 + rng.permutation(4)]).astype(np.uint64)
    renamed = scores(contingency(names[segmentation], neurons[truth]))
    assert renamed == scores(contingency(segmentation, truth))


def test_arrays_on_disk_are_compared_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fib25_labels: Array
) -> None:
    """A Zarr segmentation against an HDF5 truth has the scores of the arrays in memory."""
    pieces = np.roll(fib25_labels, 9, axis=2)
    zarr.create_array(tmp_path / "s", data=pieces, chunks=(16, 64, 64))
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["a/labels"] = fib25_labels
    monkeypatch.setattr(metrics, "BLOCK", (16, 128, 128))
    found = metrics.evaluate(str(tmp_path / "s"), f"{tmp_path / 't.h5'}:a/labels")
    assert found == scores(contingency(pieces, fib25_labels))
    box = Roi((3, 0, 10), (20, 99, 250))
    part = metrics.evaluate(str(tmp_path / "s"), f"{tmp_path / 't.h5'}:a/labels", box)
    assert part == scores(contingency(pieces[box.slices()], fib25_labels[box.slices()]))


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    """Other shapes, a missing dataset, a truth of zeros, and floats are refused in a sentence."""
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["labels"] = np.zeros((2, 3, 4), "u8")
        file["other"] = np.zeros((2, 3, 5), "u8")
        file["floats"] = np.zeros((2, 3, 4), "f4")
    name = f"{tmp_path / 't.h5'}:"
    for truth, sentence in [
        ("other", r"shape \(2, 3, 4\), but .* has \(2, 3, 5\)"),
        ("nothing", "has no dataset nothing; there are floats, labels, other"),
        ("floats", "accepted are integers over z, y, x"),
        ("labels", "is 0 in all of 0:2,0:3,0:4"),
    ]:
        with pytest.raises(VolumeError, match=sentence):
            metrics.evaluate(name + "labels", name + truth)
    with pytest.raises(VolumeError, match="roi 0:2,1:9,0:4: leaves the volume"):
        metrics.evaluate(name + "labels", name + "labels", Roi((0, 1, 0), (2, 9, 4)))
    with pytest.raises(VolumeError, match="cannot be opened as HDF5"):
        metrics.evaluate(f"{tmp_path / 'none.h5'}:labels", name + "labels")


def test_a_segment_keeps_its_colour(fib25_raw: Array, fib25_labels: Array) -> None:
    """A picture shows sections side by side; colours follow ids; 0 shows the microscopy."""
    picture = overlay(fib25_raw, fib25_labels, [0, 31])
    assert picture.size == (250 + 4 + 250, 250)
    ids = np.arange(1, 1000)
    assert len(np.unique(colours(ids).round(3), axis=0)) > 990
    assert (colours(ids)[::-1] == colours(ids[::-1])).all()
    plain = np.asarray(overlay(fib25_raw, np.zeros_like(fib25_labels), [5]))
    assert (plain == fib25_raw[5][..., None]).all()
