"""The order of blocks, and all of them in this process, one after the other: for debugging."""

from __future__ import annotations

import contextlib
import itertools
import random
from dataclasses import replace
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from cadseg.blocks import Grid, Zyx, zyx
from cadseg.pipeline.execution.attempt import attempt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized

    from cadseg.pipeline.execution.guard import Guard
    from cadseg.pipeline.execution.watch import Watch
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store

LOG = "logs/serial.log"


def unfinished(grid: Grid, steps: Sequence[Step], done: Mapping[str, Sized]) -> list[Step]:
    """The steps that still have blocks to do, sorted by their dependencies.

    A step after a finished one waits for what the finished one waits for: where a record upstream
    was lost, blocks far downstream still come after it.
    """
    known = {step.name: step for step in steps}
    graph = {step.name: [name for name in step.after if name in known] for step in steps}
    after: dict[str, tuple[str, ...]] = {}
    todo = []
    for name in TopologicalSorter(graph).static_order():
        complete = {up: len(done[up]) == grid.count(known[up].level) for up in graph[name]}
        nearest = [near for up in graph[name] for near in (after[up] if complete[up] else (up,))]
        after[name] = tuple(dict.fromkeys(nearest))
        if len(done[name]) < grid.count(known[name].level):
            todo.append(replace(known[name], after=after[name]))
    return todo


def needs(grid: Grid, step: Step, cell: Zyx, upstream: Step) -> Iterator[Zyx]:
    """The cells of `upstream` that meet what the block of `step` at `cell` reads."""
    read = grid.block(step.level, cell, step.halo).read
    shape = grid.cell_shape(upstream.level)
    ranges = (
        range(b // n, -(-e // n)) for b, e, n in zip(read.begin, read.end, shape, strict=True)
    )
    return map(zyx, itertools.product(*ranges))


def run_serial(
    store: Store,
    steps: Sequence[Step],
    watch: Watch,
    guard: Guard,
    *,
    retries: int,
    order: int | None,
) -> None:
    """Compute the blocks of `steps`, which are sorted by their dependencies.

    Args:
        store: the run.
        steps: the steps.
        watch: knows what is done, and is told.
        guard: knows whether anything can be written.
        retries: how often a failed block is tried again.
        order: seed that shuffles the blocks; None for the order of the steps and the grid.
    """
    done = watch.done
    todo: Iterable[tuple[Step, Zyx]] = (
        (step, cell)
        for step in steps
        for cell in store.grid.cells(step.level)
        if cell not in done[step.name]
    )
    if order is not None:
        todo = list(todo)
        random.Random(order).shuffle(todo)
    known = {step.name: step for step in steps}

    def ready(step: Step, cell: Zyx) -> bool:
        return all(
            need in done[name]
            for name in step.after
            for need in needs(store.grid, step, cell, known[name])
        )

    moving = True
    while moving:
        moving, waiting = False, []
        for step, cell in todo:
            if not ready(step, cell):
                waiting.append((step, cell))
                continue
            moving = True
            guard.ask()
            if _tried(store, step, cell, retries):
                watch.finished(step, cell)
            elif watch.failing():
                return
        todo = waiting


def _tried(store: Store, step: Step, cell: Zyx, retries: int) -> bool:
    for _ in range(retries + 1):
        with contextlib.suppress(Exception):
            attempt(store, step, cell, retries=retries, limit=None, log=LOG)
            return True
    return False
