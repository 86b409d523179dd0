"""``cadseg status``: how far a run is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cadseg.pipeline.execution.status import StepStatus


@click.command("status")
@click.argument("out")
def command(out: str) -> None:
    """Show how far the run in OUT is: blocks, speed, time left, residue, the last errors."""
    from cadseg.blocks import cell_name
    from cadseg.pipeline.execution import verify
    from cadseg.pipeline.execution.status import status
    from cadseg.workers.stages import steps_of
    from cadseg.workers.store import Store

    store = Store.open(out)
    steps = status(store, steps_of(store))
    click.echo(f"{'step':<16}{'done':>8}{'failed':>8}{'left':>8}{'Mvoxel/s':>10}  time left")
    for step in steps:
        left = "" if step.seconds_left is None else f"{step.seconds_left:.0f} s"
        speed = step.voxels_per_second / 1e6
        click.echo(
            f"{step.step:<16}{step.done:>8}{step.failed:>8}{step.left:>8}{speed:>10.2f}  {left}"
        )
    for line in _residue(steps):
        click.echo(line)
    if (verified := verify.read(store.files)) is not None:
        click.echo(f"verified on {time.ctime(verified.when)}: {verified}")
    for step in steps:
        for failure in step.failures:
            block = f"{step.step} block {cell_name(failure.cell)}"
            click.echo(f"{block}: {failure.error} (see {failure.log})")


def _residue(steps: Sequence[StepStatus]) -> Iterator[str]:
    """A line per level of the agglomeration: its share of the merges, what it left for the next."""
    levels = [step for step in steps if step.stage == "agglomerate" and step.done]
    made = sum(level.counts["merges"] for level in levels)
    for level in levels:
        merges, left = level.counts["merges"], level.counts["left"]
        yield f"{level.step}: {merges} of {made} merges, {left} edges left"
