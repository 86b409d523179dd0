"""Scores as integers: exact, the same for every order of summation, and comparable as they are.

The score of an edge is a fraction: for the mean affinity sum / count, for the median of maxima
bin / 1, both in units of the affinities' dtype (255 is 1.0 for uint8). It is compared as the
fixed-point number ``floor(sum / count * 2**f)``, where f fills 64 bits (56 for uint8). Two unequal
fractions become the same number only when the product of their counts exceeds 2**f, and the floor
of a mean still lies between the floors of its parts, so merging stays reducible in any case.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numba as nb
import numpy as np

Ids = np.ndarray[Any, np.dtype[np.uint64]]

LARGEST_COUNT = 1 << 36
"""Voxel pairs in one contact, beyond which a score would overflow."""


def half_bits(dtype: Any) -> int:
    """Half the number f of fraction bits for affinities of `dtype`."""
    bits: int = 8 * np.dtype(dtype).itemsize
    return (64 - bits) // 2


def at_least(threshold: float, dtype: Any) -> int:
    """The smallest score of an affinity of at least `threshold` (0..1), for `dtype`.

    A threshold is meant as it is written: 0.1 is one tenth. A score of exactly the threshold has
    the threshold's floor, so it passes.
    """
    one = int(np.iinfo(dtype).max) << (2 * half_bits(dtype))
    return math.floor(Fraction(repr(float(threshold))) * one)


@nb.njit(nogil=True, cache=True)
def score(total, count, half):  # type: ignore[no-untyped-def]
    """``floor(total / count * 2**(2 * half))`` as uint64, by long division in two digits."""
    digits = np.uint64(half)
    whole, rest = total // count, total % count
    rest <<= digits
    first, rest = rest // count, rest % count
    second = (rest << digits) // count
    return (((whole << digits) | first) << digits) | second


def scores(totals: Ids, counts: Ids, half: int) -> Ids:
    """`score` of whole arrays, by numpy: a worker that only cuts need not wait for a compiler."""
    return np.asarray(score.py_func(totals, counts, half))  # type: ignore[no-untyped-call]
