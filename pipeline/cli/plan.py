"""``cadseg plan``: what a run would take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cadseg.pipeline.cli.options import execution_options, request_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.pipeline.execution.driver import Execution
    from cadseg.pipeline.plan import Plan
    from cadseg.pipeline.prepare import Request


@click.command("plan")
@click.argument("volume")
@click.option("--affinities", is_flag=True, help="VOLUME holds affinities, as for cadseg segment.")
@request_options(raw=True)
@execution_options
def command(
    volume: str, affinities: bool, request: Request, execution: Callable[[], Execution]
) -> None:
    """Show what segmenting VOLUME would take: blocks, memory, disk. Writes nothing."""
    from cadseg.pipeline.plan import plan
    from cadseg.pipeline.prepare import prepare

    prepared = prepare(volume, source="affinities" if affinities else "raw", **request)
    _show(plan(prepared, execution().workers))


def _show(plan: Plan) -> None:
    click.echo(f"{'step':<16}{'blocks':>10}{'Mvoxel':>10}{'read GB':>10}{'write GB':>10}  memory")
    for step in plan.steps:
        click.echo(
            f"{step.name:<16}{step.blocks:>10}{step.voxels / 1e6:>10.1f}{step.read / 1e9:>10.1f}"
            f"{step.written / 1e9:>10.1f}  {step.memory / 1e9:.1f} GB"
        )
    click.echo(
        f"memory: up to {plan.memory / 1e9:.1f} GB per worker, "
        f"{plan.memory_of(plan.workers) / 1e9:.1f} GB in all; this machine has {plan.ram / 1e9:.1f}"
    )
    click.echo(
        f"disk: about {plan.disk / 1e9:.1f} GB in {plan.files} files, {plan.disk_limit / 1e9:.1f} "
        f"if nothing compresses; {plan.disk_free / 1e9:.1f} are free at {plan.out}"
    )
    for line in plan.advice:
        click.echo(line)
