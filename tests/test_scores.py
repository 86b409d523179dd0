"""Scores: the order of fractions, exactly, in one integer."""

from __future__ import annotations

from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cadseg.agglomeration.scores import digits_for, most_pairs, score
from cadseg.agglomeration.scoring import METHODS, Scoring
from cadseg.config import AgglomerateConfig

DTYPES = ["uint8", "uint16", "uint32"]
MANY = settings(max_examples=200, deadline=None)


@st.composite
def fractions(draw: st.DrawFn, dtype: str) -> tuple[int, int]:
    """Sums and counts that contacts can have."""
    half, one = mean(dtype).half, int(np.iinfo(dtype).max)
    few, most = 1 << (64 - half), most_pairs(half)
    borders = st.sampled_from([few, most]).flatmap(lambda n: st.integers(n - 9, n + 9))
    count = draw(st.integers(1, 60) | st.integers(1, most) | borders.map(lambda n: min(n, most)))
    top = one * count
    near = (
        st.integers(0, one)
        .map(lambda affinity: affinity * count)
        .flatmap(lambda total: st.integers(max(total - 2, 0), min(total + 2, top)))
    )
    return draw(st.integers(0, top) | near), count


def mean(dtype: str) -> Scoring:
    return Scoring.of("mean", dtype)


def scored(total: int, count: int, dtype: str) -> int:
    return int(score(np.uint64(total), np.uint64(count), mean(dtype).half))


@pytest.mark.parametrize("dtype", DTYPES)
@MANY
@given(data=st.data())
def test_a_score_is_the_fraction_in_fixed_point(dtype: str, data: st.DataObject) -> None:
    """The score is the floor of the mean times a power of two, for every sum and count."""
    total, count = data.draw(fractions(dtype))
    expected = Fraction(total, count) * 2 ** (2 * mean(dtype).half)
    assert scored(total, count, dtype) == expected.__floor__()


@pytest.mark.parametrize("dtype", DTYPES)
@MANY
@given(data=st.data())
def test_scores_never_reverse_an_order(dtype: str, data: st.DataObject) -> None:
    """A larger mean never has a smaller score, and equal means have equal scores."""
    one, other = data.draw(fractions(dtype)), data.draw(fractions(dtype))
    a, b = Fraction(*one), Fraction(*other)
    if a == b:
        assert scored(*one, dtype) == scored(*other, dtype)
    elif a < b:
        assert scored(*one, dtype) <= scored(*other, dtype)
        if one[1] * other[1] <= 2 ** (2 * mean(dtype).half):
            assert scored(*one, dtype) < scored(*other, dtype)


@MANY
@given(data=st.data())
def test_merging_never_makes_a_score_better(data: st.DataObject) -> None:
    """The score of two contacts together lies between the scores of the two."""
    one, other = data.draw(fractions("uint8")), data.draw(fractions("uint8"))
    assume(one[1] + other[1] <= most_pairs(mean("uint8").half))
    together = scored(one[0] + other[0], one[1] + other[1], "uint8")
    parts = scored(*one, "uint8"), scored(*other, "uint8")
    assert min(parts) <= together <= max(parts)


@pytest.mark.parametrize("dtype", DTYPES)
@MANY
@given(data=st.data())
def test_a_threshold_means_what_is_written(dtype: str, data: st.DataObject) -> None:
    """A mean passes exactly where it is at least the decimal that stands in the config."""
    thousandths = data.draw(st.integers(0, 1000))
    count = data.draw(st.integers(1, 2000))
    top = int(np.iinfo(dtype).max)
    near = thousandths * top * count // 1000
    total = min(max(near + data.draw(st.integers(-2, 2)), 0), top * count)
    passes = scored(total, count, dtype) >= mean(dtype).at_least(thousandths / 1000)
    assert passes == (Fraction(total, count * top) >= Fraction(thousandths, 1000))


def test_a_tenth_is_a_tenth() -> None:
    """A mean of exactly 51 of 255 passes 0.2, although the float 0.2 is a little more."""
    assert scored(51, 1, "uint8") == mean("uint8").at_least(0.2)
    assert scored(510 * 7, 70, "uint8") == mean("uint8").at_least(0.2)
    assert scored(51 * 1000 - 1, 1000, "uint8") < mean("uint8").at_least(0.2)
    assert scored(51, 200, "uint8") >= mean("uint8").at_least(0.001)


@pytest.mark.parametrize("dtype", DTYPES)
@MANY
@given(data=st.data())
def test_arrays_are_scored_one_by_one(dtype: str, data: st.DataObject) -> None:
    """Scoring an array is scoring its members, small and large contacts beside each other."""
    drawn = data.draw(st.lists(fractions(dtype), max_size=9))
    total, count = np.array(drawn, np.uint64).reshape(-1, 2).T
    expected = [scored(*fraction, dtype) for fraction in drawn]
    assert mean(dtype).of_fractions(total, count).tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_have_64_bits(dtype: str) -> None:
    """The most voxel pairs, all of the largest affinity, have a sum and a score below 2**64."""
    half, one = mean(dtype).half, int(np.iinfo(dtype).max)
    assert one * most_pairs(half) < 2**64
    assert scored(one * most_pairs(half), most_pairs(half), dtype) == mean(dtype).at_least(1.0)
    for count in (1 << (64 - half), most_pairs(half)):
        bits, digits = digits_for(count, half)
        assert bits * digits == 2 * half
        assert (count - 1) << bits < 2**64


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_is_the_largest_score(dtype: str) -> None:
    """A threshold of 1 fits into 64 bits, and only certainty reaches it."""
    top = int(np.iinfo(dtype).max)
    assert mean(dtype).at_least(1.0) == scored(top, 1, dtype) < 2**64
    assert scored(top * 9 - 1, 9, dtype) < mean(dtype).at_least(1.0)
    assert mean(dtype).at_least(0.0) == 0


def test_the_config_names_every_scoring() -> None:
    """What the config accepts is what there is, in any order."""
    accepted = get_args(AgglomerateConfig.model_fields["scoring"].annotation)
    assert sorted(accepted) == sorted(METHODS)
    assert [Scoring.of(name, "uint8").method for name in METHODS] == list(METHODS.values())
