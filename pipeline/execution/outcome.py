"""What became of the steps of a run, by its records and notes, told by the user's process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.blocks import cell_name
from cadseg.errors import StageError
from cadseg.pipeline.execution.notes import Failure, failure, notes
from cadseg.pipeline.execution.records import tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cadseg.workers.step import Step
    from cadseg.workers.store import Store


TOLD = 5
"""Blocks that were lost and are named."""


@dataclass(frozen=True)
class StepOutcome:
    """What became of one step.

    Attributes:
        done: blocks that have their record.
        failed: blocks that were tried and are not done.
        left: blocks that were not tried.
        total: all blocks.
        failures: the failed blocks.
        lost: of blocks that had been done and were computed again, what was found.
    """

    done: int
    failed: int
    left: int
    total: int
    failures: Sequence[Failure] = ()
    lost: Sequence[str] = ()


def outcome(store: Store, step: Step, lost: Sequence[str] = ()) -> StepOutcome:
    """What became of `step`, by its records."""
    done = tally(store, step).blocks
    failures = [
        failure(store.files, cell, note)
        for cell, note in sorted(notes(store.files, step).items())
        if store.record(step, cell) is None
    ]
    total = store.grid.count(step.level)
    return StepOutcome(done, len(failures), total - done - len(failures), total, failures, lost)


def check(outcomes: Mapping[str, StepOutcome], out: str) -> None:
    """Raise `StageError` for the first step of the run at `out` that has failed blocks."""
    for name, outcome in outcomes.items():
        if outcome.failed:
            first = outcome.failures[0]
            raise StageError(
                f"{name}: {outcome.failed} of {outcome.total} blocks failed, first block "
                f"{cell_name(first.cell)}: {first.error} (see {first.log}); what is "
                f"finished in {out} is kept, and the same command goes on from there"
            )
    for name, outcome in outcomes.items():
        if outcome.left:
            raise StageError(
                f"{name}: {outcome.left} of {outcome.total} blocks could not even leave a note; "
                f"has the disk of {out} room, and may we write there? See {out}/logs; what is "
                "finished is kept, and the same command goes on from there"
            )


def warnings(outcomes: Mapping[str, StepOutcome], out: str) -> list[str]:
    """What a user is told about blocks that were lost: the first few, and how many more."""
    lost = [f"{out}/{sentence}" for outcome in outcomes.values() for sentence in outcome.lost]
    more = len(lost) - TOLD
    return lost[:TOLD] + ([f"{more} more blocks in {out} were computed again"] if more > 0 else [])
