"""Scores as integers: exact, the same for every order of summation, and comparable as they are.

The score of a contact is a fraction in units of the affinities' dtype (255 is 1.0 for uint8). It is
compared as the fixed-point number ``floor(total / count * 2**f)``, where f fills 64 bits (56 for
uint8). Two unequal fractions become the same number only when the product of their counts exceeds
2**f, and the floor of a mean still lies between the floors of its parts, so merging stays reducible
in any case.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cadseg.kernels import kernel

LARGEST_COUNT = 1 << 36
"""Voxel pairs in one contact, beyond which a score would overflow."""


def fixed_point(total: Any, count: Any, half: int) -> Any:
    """``floor(total / count * 2**(2 * half))`` as uint64, by long division in two digits.

    Args:
        total: uint64, one or an array.
        count: the same.
        half: half the number f of fraction bits.
    """
    digits = np.uint64(half)
    whole, rest = total // count, total % count
    rest <<= digits
    first, rest = rest // count, rest % count
    second = (rest << digits) // count
    return (((whole << digits) | first) << digits) | second


score = kernel(fixed_point)
"""The same, for kernels."""
