"""``cadseg relabel``: another threshold, or which one is best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cadseg.pipeline.cli import parse
from cadseg.pipeline.cli.options import execution_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cadseg.evaluation.curve import Point
    from cadseg.pipeline.execution.driver import Execution

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("relabel")
@click.argument("out")
@click.option("--threshold", type=float, help="Affinity, 0..1.")
@click.option("--min-voxels", type=int, help="Smaller segments join their best neighbour.")
@click.option("--sweep", metavar="LOW:HIGH:STEP", help="Only score these thresholds.")
@click.option("--ground-truth", metavar="TRUTH", help="Of a sweep: Zarr array, FILE.h5:DATASET.")
@click.option("--plot", metavar="FILE.png", type=FILE, help="Of a sweep: draw its scores.")
@click.option("--table", metavar="FILE.csv", type=FILE, help="Of a sweep: write its scores.")
@execution_options
def command(
    out: str,
    threshold: float | None,
    min_voxels: int | None,
    sweep: str | None,
    ground_truth: str | None,
    plot: Path | None,
    table: Path | None,
    execution: Callable[[], Execution],
) -> None:
    """Cut the merge tree of the run in OUT elsewhere; only the segmentation is rewritten.

    With --sweep nothing is rewritten: the scores of each threshold against the ground truth are
    shown, the best one marked.
    """
    if sweep is None:
        if (ground_truth, plot, table) != (None, None, None):
            raise click.UsageError("--ground-truth, --plot and --table belong to --sweep")
        if threshold is None and min_voxels is None:
            raise click.UsageError("accepted is --threshold, --min-voxels, or --sweep")
        _relabel(out, threshold, min_voxels, execution())
    elif threshold is not None:
        raise click.UsageError("accepted is either --threshold or --sweep")
    elif ground_truth is None:
        raise click.UsageError("--sweep needs --ground-truth")
    else:
        from cadseg.pipeline import sweep as library

        at = parse.thresholds(sweep)
        _show(library.sweep(out, at, ground_truth, min_voxels=min_voxels, plot=plot, table=table))


def _relabel(
    out: str, threshold: float | None, min_voxels: int | None, execution: Execution
) -> None:
    from cadseg.pipeline.run import relabel

    report = relabel(out, threshold, execution, min_voxels=min_voxels)
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(report.segmentation)


def _show(points: Sequence[Point]) -> None:
    """Scores as a table, the best threshold marked."""
    from cadseg.evaluation.curve import best

    click.echo("  threshold  VOI split  VOI merge    VOI sum      ARAND")
    marked = best(points)
    for point in points:
        first, *others = point.row
        mark = "*" if point is marked else " "
        click.echo(f"{mark} {first:9g}" + "".join(f"{value:11.3f}" for value in others))
