"""``cadseg segment``: affinities to segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cadseg.pipeline.cli import predict
from cadseg.pipeline.cli.options import execution_options, request_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.pipeline.execution.driver import Execution
    from cadseg.pipeline.prepare import Request


@click.command("segment")
@click.argument("affinities")
@request_options(raw=False)
@execution_options
def command(affinities: str, request: Request, execution: Callable[[], Execution]) -> None:
    """Segment AFFINITIES, a Zarr array [3, z, y, x], uint8, or float in 0..1."""
    predict.run(affinities, "affinities", request, execution)
