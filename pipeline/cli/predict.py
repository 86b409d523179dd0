"""``cadseg predict``: raw to segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cadseg.pipeline.cli.options import how_options, request_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.pipeline.run import How
    from cadseg.workers.manifest import Source


@click.command("predict")
@click.argument("volume")
@request_options(raw=True)
@how_options
def command(volume: str, request: dict[str, Any], how: Callable[[], How]) -> None:
    """Segment VOLUME, a Zarr array of grey values; run again, it goes on."""
    run(volume, "raw", request, how)


def run(volume: str, source: Source, request: dict[str, Any], how: Callable[[], How]) -> None:
    """Segment a volume and say where the result is."""
    from cadseg.pipeline.prepare import prepare
    from cadseg.pipeline.run import execute, leavings

    job = prepare(volume, source=source, **request)
    for stage in job.redo:
        for name in leavings(job, stage):
            click.echo(f"deleting {job.out}/{name}", err=True)
    report = execute(job, how())
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(report.segmentation or report.out)
