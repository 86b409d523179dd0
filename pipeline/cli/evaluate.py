"""``cadseg evaluate``: scores against the truth."""

from __future__ import annotations

import dataclasses
import json

import click

from cadseg.pipeline.cli import parse


@click.command("evaluate")
@click.argument("segmentation")
@click.argument("ground_truth")
@click.option("--roi", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Part to compare, voxels.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def command(segmentation: str, ground_truth: str, roi: str | None, as_json: bool) -> None:
    """Score SEGMENTATION against GROUND_TRUTH, a Zarr array or FILE.h5:DATASET, block by block."""
    from cadseg.blocks import Roi, zyx
    from cadseg.evaluation.metrics import evaluate

    box = None if roi is None else Roi(*map(zyx, zip(*parse.roi(roi), strict=True)))
    scores = evaluate(segmentation, ground_truth, box)
    values = {"voi_sum": scores.voi_sum, **dataclasses.asdict(scores)}
    if as_json:
        click.echo(json.dumps(values))
    else:
        click.echo(
            f"VOI split {scores.voi_split:.3f} + merge {scores.voi_merge:.3f} = "
            f"{scores.voi_sum:.3f} bits, ARAND {scores.arand:.3f}"
        )
