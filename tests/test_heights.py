"""Heights: a clipped, smoothed distance, the same in a block with halo as in the whole section."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cadseg.fragments.heights import DISTANCE_UNIT, HEIGHT_UNIT, halo, heights

Array = np.ndarray[Any, Any]


def noise(seed: int, shape: tuple[int, int, int], smooth: float = 1.5, axes: int = 2) -> Array:
    """Affinities [axes, z, y, x] with cells and boundaries in them."""
    field = np.random.default_rng(seed).normal(size=(axes, *shape))
    field = ndimage.gaussian_filter(field, (0, smooth if axes == 3 else 0, smooth, smooth))
    return np.clip(field / field.std() * 90 + 140, 0, 255).astype(np.uint8)


@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 11), st.integers(1, 11)),
    clip=st.integers(1, 6),
    sigma=st.sampled_from([0.1, 0.4, 1.0, 2.0]),
    boundary_weight=st.sampled_from([0.0, 0.3, 8.0]),
    smooth=st.sampled_from([0.0, 1.0, 3.0]),
    axes=st.sampled_from([2, 3]),
)
@settings(max_examples=30, deadline=None)
def test_heights_are_the_literal_ones(
    seed: int,
    shape: tuple[int, int, int],
    clip: int,
    sigma: float,
    boundary_weight: float,
    smooth: float,
    axes: int,
) -> None:
    """Integer for integer what distances over all pairs of voxels give, thin volumes included."""
    affinities = noise(seed, shape, smooth, axes)
    found = heights(affinities, distance_clip=clip, sigma=sigma, boundary_weight=boundary_weight)
    expected = oracle.heights(affinities, clip, sigma, boundary_weight)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("boundary_weight", [0.0, 8.0])
@pytest.mark.parametrize("axes", [2, 3])
def test_heights_are_scipy_s_distance_smoothed(
    fib25_affinities: Array, boundary_weight: float, axes: int
) -> None:
    """To rounding, heights are scipy's distance transforms, clipped, lowered, and smoothed."""
    clip, sigma, top = 24, 2.0, axes * 255
    affinities = fib25_affinities[-axes:, :1] if axes == 2 else fib25_affinities[:, :, :50, :60]
    found = heights(affinities, distance_clip=clip, sigma=sigma, boundary_weight=boundary_weight)
    both = oracle.belief(affinities[:, 0] if axes == 2 else affinities)
    inside = 2 * both > top
    distance = np.where(
        inside, ndimage.distance_transform_edt(inside), -ndimage.distance_transform_edt(~inside)
    )
    field = distance.clip(-clip, clip) - boundary_weight * (1 - both / top)
    smooth = ndimage.gaussian_filter(field, sigma, mode="nearest", truncate=4)
    error = found.reshape(smooth.shape) / HEIGHT_UNIT - smooth
    assert abs(error).max() < 1 / DISTANCE_UNIT + 0.02
    assert smooth.std() > 1


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    "box", [(0, 30, 0, 30), (17, 41, 30, 52), (50, 70, 40, 60), (33, 34, 9, 70)]
)
def test_a_block_with_halo_has_the_heights_of_the_whole(
    box: tuple[int, int, int, int], axes: int
) -> None:
    """What lies beyond the halo changes no height: a block's are those of the whole."""
    clip, sigma = 6, 1.0
    numbers = {"distance_clip": clip, "sigma": sigma, "boundary_weight": 4.0}
    affinities = noise(1, (2, 70, 70) if axes == 2 else (9, 70, 70), 4.0, axes)
    if axes == 3:
        affinities = affinities.swapaxes(1, 2)  # long in z
    whole = heights(affinities, **numbers)
    reach = halo(clip, sigma)
    y0, y1, x0, x1 = box
    ry, rx = max(0, y0 - reach), max(0, x0 - reach)
    if axes == 2:
        read = affinities[:, :, ry : y1 + reach, rx : x1 + reach]
        part = heights(read, **numbers, first=(ry == 0, rx == 0))
        np.testing.assert_array_equal(
            part[:, y0 - ry : y1 - ry, x0 - rx : x1 - rx], whole[:, y0:y1, x0:x1]
        )
    else:
        read = affinities[:, ry : y1 + reach, :, rx : x1 + reach]
        part = heights(read, **numbers, first=(ry == 0, True, rx == 0))
        np.testing.assert_array_equal(
            part[y0 - ry : y1 - ry, :, x0 - rx : x1 - rx], whole[y0:y1, :, x0:x1]
        )


def test_the_halo_is_no_wider_than_needed() -> None:
    """The farthest voxel of the halo can change a height, and the voxel beyond it cannot."""
    clip, sigma = 5, 0.5
    reach = halo(clip, sigma)
    affinities = np.full((2, 1, 1, 60), 255, np.uint8)
    plain = heights(affinities, distance_clip=clip, sigma=sigma, boundary_weight=0.0)
    affinities[:, 0, 0, 30] = 0
    changed = heights(affinities, distance_clip=clip, sigma=sigma, boundary_weight=0.0)
    places = np.flatnonzero(changed[0, 0] != plain[0, 0])
    assert places.min() == 30 - reach
    assert places.max() == 30 + reach


def test_every_distance_is_rounded_to_the_nearest_step() -> None:
    """Around one boundary voxel, all distances that the widest clip knows are exact."""
    affinities = np.full((2, 1, 64, 64), 255, np.uint8)
    affinities[:, 0, 0, 0] = 0
    affinities[:, 0, 1, 0] = affinities[:, 0, 0, 1] = 0  # whence the first row borrows
    found = heights(affinities, distance_clip=64, sigma=0.1, boundary_weight=0.0)[0]
    y, x = np.indices(found.shape)
    squares = (y[2:, 2:] - 1) ** 2 + x[2:, 2:] ** 2
    squares = np.minimum(squares, y[2:, 2:] ** 2 + (x[2:, 2:] - 1) ** 2)
    steps = np.rint(np.sqrt(squares.clip(0, 64**2)) * DISTANCE_UNIT)
    np.testing.assert_array_equal(found[2:, 2:], steps * (HEIGHT_UNIT // DISTANCE_UNIT))


def test_sections_know_nothing_of_each_other() -> None:
    """The heights of a section are those that it has alone."""
    affinities = noise(2, (4, 30, 20))
    numbers = {"distance_clip": 8, "sigma": 2.0, "boundary_weight": 8.0}
    whole = heights(affinities, **numbers)
    for z in range(4):
        np.testing.assert_array_equal(whole[z], heights(affinities[:, z : z + 1], **numbers)[0])


def test_the_first_row_and_column_borrow_from_the_second() -> None:
    """Affinities that lead out of the domain count for nothing."""
    affinities = noise(3, (1, 20, 20))
    numbers = {"distance_clip": 8, "sigma": 1.0, "boundary_weight": 8.0}
    expected = heights(affinities, **numbers)
    affinities[0, :, 0], affinities[1, :, :, 0] = 7, 99
    np.testing.assert_array_equal(heights(affinities, **numbers), expected)


def test_the_widest_numbers_do_not_overflow() -> None:
    """The largest clip and weight that a config accepts fit into an int32, above and below 0."""
    for value, sign in ((0, -1), (255, 1)):
        affinities = np.full((2, 1, 9, 9), value, np.uint8)
        found = heights(affinities, distance_clip=64, sigma=8.0, boundary_weight=16.0)
        expected = -64 - 16 if sign < 0 else 64
        np.testing.assert_array_equal(found, expected * HEIGHT_UNIT)
