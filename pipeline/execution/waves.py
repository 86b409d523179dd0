"""Runs of very many blocks, cut into waves that go one after the other.

daisy keeps 0.66 KB for each block that it was told of, done or not. A *wave* is as many steps, one
after the other, as have `MOST` blocks in all; a step that has more is cut into slabs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cadseg.blocks import zyx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cadseg.arrays import Bytes
    from cadseg.blocks import Grid, Zyx
    from cadseg.pipeline.execution.done import Done
    from cadseg.workers.step import Step

MOST = 10_000_000
"""Blocks that daisy is told of at a time."""


@dataclass(frozen=True)
class Part:
    """Blocks of one step.

    Attributes:
        step: whose; after steps of the same wave only.
        begin, end: the first cell, and one past the last.
        done: a byte per block, 1 where it is done.
    """

    step: Step
    begin: Zyx
    end: Zyx
    done: Bytes


def waves(
    grid: Grid, steps: Sequence[Step], done: Mapping[str, Done], most: int = MOST
) -> Iterator[list[Part]]:
    """The waves of `steps`, which are sorted by their dependencies."""
    wave: list[Part] = []
    for step in steps:
        parts = [part for part in _slabs(grid, step, done[step.name].mask, most) if _open(part)]
        room = most - sum(part.done.size for part in wave)
        if wave and (len(parts) > 1 or sum(part.done.size for part in parts) > room):
            yield wave
            wave = []
        if len(parts) > 1:
            yield from ([replace(part, step=replace(step, after=()))] for part in parts)
            continue
        here = {part.step.name for part in wave}
        after = tuple(name for name in step.after if name in here)
        wave += [replace(part, step=replace(step, after=after)) for part in parts]
    if wave:
        yield wave


def finished(wave: Sequence[Part]) -> bool:
    """Whether all blocks of a wave are done by now."""
    return not any(map(_open, wave))


def _open(part: Part) -> bool:
    return not part.done.all()


def _slabs(grid: Grid, step: Step, done: Bytes, most: int) -> Iterator[Part]:
    """The step, cut across its longest axis into parts of at most `most` blocks, or one layer."""
    begin, end = grid.span(step.level)
    axis = max(range(3), key=lambda axis: done.shape[axis])
    thick = max(1, most * done.shape[axis] // done.size)
    for low in range(0, done.shape[axis], thick):
        high = min(low + thick, done.shape[axis])
        first, last = list(begin), list(end)
        first[axis], last[axis] = begin[axis] + low, begin[axis] + high
        layers = (slice(None),) * axis + (slice(low, high),)
        yield Part(step, zyx(first), zyx(last), done[layers])
