"""``cadseg relabel``: another threshold, or which one is best."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cadseg.pipeline.cli.options import how_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.pipeline.run import How

MOST = 1000
"""Thresholds in a sweep."""

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("relabel")
@click.argument("out")
@click.option("--threshold", type=float, help="Affinity, 0..1.")
@click.option("--min-voxels", type=int, help="Smaller segments join their best neighbour.")
@click.option("--sweep", metavar="LOW:HIGH:STEP", help="Only score these thresholds.")
@click.option("--ground-truth", metavar="TRUTH", help="Of a sweep: Zarr array, FILE.h5:DATASET.")
@click.option("--plot", metavar="FILE.png", type=FILE, help="Of a sweep: draw its scores.")
@click.option("--table", metavar="FILE.csv", type=FILE, help="Of a sweep: write its scores.")
@how_options
def command(
    out: str,
    threshold: float | None,
    min_voxels: int | None,
    sweep: str | None,
    ground_truth: str | None,
    plot: Path | None,
    table: Path | None,
    how: Callable[[], How],
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
        _relabel(out, threshold, min_voxels, how())
    elif threshold is not None:
        raise click.UsageError("accepted is either --threshold or --sweep")
    elif ground_truth is None:
        raise click.UsageError("--sweep needs --ground-truth")
    else:
        _sweep(out, thresholds(sweep), ground_truth, min_voxels, plot, table)


def _relabel(out: str, threshold: float | None, min_voxels: int | None, how: How) -> None:
    from cadseg.pipeline.run import relabel

    report = relabel(out, threshold, how, min_voxels=min_voxels)
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(report.segmentation)


def _sweep(
    out: str,
    at: list[float],
    truth: str,
    min_voxels: int | None,
    plot: Path | None,
    table: Path | None,
) -> None:
    from cadseg.evaluation.curve import best
    from cadseg.pipeline.sweep import sweep

    points = sweep(out, at, truth, min_voxels=min_voxels, plot=plot, table=table)
    click.echo("  threshold  VOI split  VOI merge    VOI sum      ARAND")
    marked = best(points)
    for point in points:
        first, *others = point.row
        mark = "*" if point is marked else " "
        click.echo(f"{mark} {first:9g}" + "".join(f"{value:11.3f}" for value in others))


def thresholds(text: str) -> list[float]:
    """``low:high:step`` as thresholds, both ends included, each as it would be written."""
    try:
        low, high, step = map(Decimal, text.split(":"))
        if not (0 <= low <= high <= 1 and step > 0 and (high - low) / step < MOST):
            raise ValueError
    except (ValueError, InvalidOperation):
        raise click.BadParameter(
            f"{text} is no range; accepted is low:high:step in 0..1, as in 0.2:0.8:0.05, of at "
            f"most {MOST} thresholds",
            param_hint="--sweep",
        ) from None
    return [float(low + place * step) for place in range(int((high - low) / step) + 1)]
