"""``cadseg predict``: raw to segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cadseg.pipeline.cli.options import execution_options, request_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.pipeline.execution.driver import Execution
    from cadseg.pipeline.prepare import Request
    from cadseg.workers.manifest import Source


@click.command("predict")
@click.argument("volume")
@request_options(raw=True)
@execution_options
def command(volume: str, request: Request, execution: Callable[[], Execution]) -> None:
    """Segment VOLUME, a Zarr array of grey values; run again, it goes on."""
    run(volume, "raw", request, execution)


def run(volume: str, source: Source, request: Request, execution: Callable[[], Execution]) -> None:
    """Segment a volume and say where the result is."""
    from cadseg.pipeline.layout import leavings
    from cadseg.pipeline.prepare import prepare
    from cadseg.pipeline.run import execute

    prepared = prepare(volume, source=source, **request)
    for stage in prepared.redo:
        for name in leavings(prepared, stage):
            click.echo(f"deleting {prepared.out}/{name}", err=True)
    report = execute(prepared, execution())
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(report.segmentation or report.out)
