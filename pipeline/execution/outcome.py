"""What became of the steps of a run, by its records and notes, told by the user's process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cadseg.blocks import cell_name
from cadseg.errors import StageError
from cadseg.pipeline.execution.notes import Failure, failure, notes
from cadseg.pipeline.execution.records import records

if TYPE_CHECKING:
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store


@dataclass(frozen=True)
class StepOutcome:
    """What became of one step.

    Attributes:
        done: blocks that have their record.
        failed: blocks that were tried and are not done.
        left: blocks that were not tried.
        total: all blocks.
        failures: the failed blocks.
    """

    done: int
    failed: int
    left: int
    total: int
    failures: list[Failure] = field(default_factory=list)


def outcome(store: Store, step: Step) -> StepOutcome:
    """What became of `step`, by its records."""
    done = records(store, step)
    noted = notes(store.files, step)
    failures = [
        failure(store.files, cell, note) for cell, note in sorted(noted.items()) if cell not in done
    ]
    total = store.grid.count(step.level)
    left = total - len(done) - len(failures)
    return StepOutcome(len(done), len(failures), left, total, failures)


def check(outcomes: dict[str, StepOutcome], out: str) -> None:
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
