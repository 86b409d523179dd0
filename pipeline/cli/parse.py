"""Options that are written as text, such as ``z0:z1,y0:y1,x0:x1``, as numbers."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import click

MOST = 1000
"""Thresholds in a sweep, at most."""


def roi(text: str) -> list[list[int]]:
    """``z0:z1,y0:y1,x0:x1`` as begin and end per axis."""
    try:
        pairs = [[int(n) for n in part.split(":")] for part in text.split(",")]
        if [len(pair) for pair in pairs] != [2, 2, 2]:
            raise ValueError
    except ValueError:
        raise click.BadParameter(
            f"{text} is no box; accepted is z0:z1,y0:y1,x0:x1, in voxels", param_hint="--roi"
        ) from None
    return pairs


def voxel_size(text: str) -> list[float]:
    """``z,y,x`` as three lengths."""
    try:
        lengths = [float(part) for part in text.split(",")]
        if len(lengths) != 3:
            raise ValueError
    except ValueError:
        raise click.BadParameter(
            f"{text} is no size; accepted is z,y,x, in nm", param_hint="--voxel-size"
        ) from None
    return lengths


def thresholds(text: str) -> list[float]:
    """``low:high:step`` as thresholds, both ends included, without rounding errors of the sum."""
    try:
        low, high, step = map(Decimal, text.split(":"))
        if not (0 <= low <= high <= 1 and 0 < step <= 1 and (high - low) / step < MOST):
            raise ValueError
    except (ValueError, InvalidOperation):
        raise click.BadParameter(
            f"{text} is no range; accepted is low:high:step in 0..1, as in 0.2:0.8:0.05, of at "
            f"most {MOST} thresholds",
            param_hint="--sweep",
        ) from None
    return [float(low + place * step) for place in range(int((high - low) / step) + 1)]
