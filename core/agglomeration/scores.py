"""Scores as integers: exact, the same for every order of summation, and comparable as they are.

The score of a contact is a fraction in units of the affinities' dtype (255 is 1.0 for uint8). It is
compared as the fixed-point number ``floor(total / count * 2**f)``, where f fills 64 bits (56 for
uint8). Two unequal fractions become the same number only when the product of their counts exceeds
2**f, and the floor of a mean still lies between the floors of its parts, so merging stays reducible
in any case.

The number is exact as long as sums have 64 bits. An affinity has 64 - f bits, so a contact of at
most 2**f voxel pairs has a sum below 2**64, and a score, too. Long division in digits of b bits
shifts a rest, which is below the count, by b: it is exact for counts of at most 2**(64 - b). Two
digits of f / 2 bits do for counts of at most 2**(64 - f / 2), which is 2**36 for uint8; beyond it,
digits of 64 - f bits, of which f is a multiple, do for all counts of at most 2**f.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cadseg.kernels import kernel


def most_pairs(half: int) -> int:
    """Voxel pairs that all contacts together may have, so that sums have 64 bits.

    For bytes 2**56: those of a volume of 24,000 Tvoxel, with three to a voxel.
    """
    return 1 << (2 * half)


def fixed_point(total: Any, count: Any, bits: int, digits: int) -> Any:
    """``floor(total / count * 2**(bits * digits))`` as uint64, by long division.

    Args:
        total: uint64, one or an array.
        count: the same, at most 2**(64 - bits).
        bits: of a digit.
        digits: how many of them.
    """
    out, rest = total // count, total % count
    for _ in range(digits):
        rest = rest << np.uint64(bits)
        out, rest = (out << np.uint64(bits)) | (rest // count), rest % count
    return out


def digits_for(count: int, half: int) -> tuple[int, int]:
    """Bits and number of the digits in which the score of a contact is found.

    Args:
        count: of its voxel pairs, at most `most_pairs`.
        half: half the number f of fraction bits.
    """
    if count <= 1 << (64 - half):
        return half, 2
    bits = 64 - 2 * half
    return bits, 2 * half // bits


_fixed_point = kernel(fixed_point)


@kernel
def score(total: Any, count: Any, half: int) -> Any:
    """The score of one contact, for kernels."""
    if count <= np.uint64(1) << np.uint64(64 - half):
        return _fixed_point(total, count, half, 2)
    bits = 64 - 2 * half
    return _fixed_point(total, count, bits, 2 * half // bits)
