"""The hash of ids that orders keys, spreads rows over hash tables, and colours segments."""

from __future__ import annotations

from typing import Any

import numpy as np

from cadseg.kernels import kernel


def splitmix64(value: Any) -> Any:
    """Finalizer of SplitMix64 (Steele et al. 2014): a bijection of uint64 that looks random."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


mixed = kernel(splitmix64)
"""The same, for kernels."""
