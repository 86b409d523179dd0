"""``cadseg relabel``: another threshold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cadseg.pipeline.cli.options import how_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.pipeline.run import How


@click.command("relabel")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--threshold", type=float, required=True, help="Affinity, 0..1.")
@how_options
def command(out: Path, threshold: float, how: Callable[[], How]) -> None:
    """Cut the merge tree of the run in OUT elsewhere; only the segmentation is rewritten."""
    from cadseg.pipeline.run import relabel

    report = relabel(out, threshold, how())
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(report.segmentation)
