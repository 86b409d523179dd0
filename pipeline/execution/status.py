"""How far a run is: read from its folder alone, whether or not anything runs there now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cadseg.pipeline.execution.notes import Failure, alive, failure, notes
from cadseg.pipeline.execution.records import tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cadseg.workers.step import Step
    from cadseg.workers.store import Store

SHOWN = 5  # errors per step


@dataclass(frozen=True)
class StepStatus:
    """How far one step is.

    Attributes:
        step: its name.
        stage: the stage that it belongs to.
        done: blocks that have their record.
        failed: blocks that were tried, are not done and are not being computed now.
        left: all others that are not done.
        total: all blocks.
        running: of those left, blocks that are being computed now.
        voxels_per_second: of one process, from the records; 0 where there is none.
        seconds_left: at this speed, for as many processes as there are now, or one; None where
            there is no record to tell.
        counts: what the blocks that are done have counted, added up.
        failures: the last few failed blocks, latest first.
    """

    step: str
    stage: str
    done: int
    failed: int
    left: int
    total: int
    running: int
    voxels_per_second: float
    seconds_left: float | None
    counts: Mapping[str, int]
    failures: list[Failure] = field(default_factory=list)


def status(store: Store, steps: Sequence[Step]) -> list[StepStatus]:
    """How far each of `steps` of a run is."""
    return [_status(store, step) for step in steps]


def _status(store: Store, step: Step) -> StepStatus:
    done = tally(store, step)
    total = store.grid.count(step.level)
    noted = {
        cell: note
        for cell, note in notes(store.files, step).items()
        if store.record(step, cell) is None
    }
    tried = {cell: note for cell, note in noted.items() if note["error"] or not alive(note)}
    running = len(noted) - len(tried)
    left = (store.grid.domain.size - done.voxels) * done.seconds
    latest = sorted(tried, key=lambda cell: float(tried[cell]["started"]), reverse=True)
    return StepStatus(
        step=step.name,
        stage=step.stage,
        done=done.blocks,
        failed=len(tried),
        left=total - done.blocks - len(tried),
        total=total,
        running=running,
        voxels_per_second=done.voxels / done.seconds if done.seconds else 0.0,
        seconds_left=left / done.voxels / max(1, running) if done.voxels else None,
        counts=done.counts,
        failures=[failure(store.files, cell, tried[cell]) for cell in latest[:SHOWN]],
    )
