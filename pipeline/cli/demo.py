"""``cadseg demo``: the whole job on the volume that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cadseg.pipeline.cli.options import how_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.pipeline.run import How


@click.command("demo")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("cadseg-demo"))
@click.option("--small", is_flag=True, help="Only a corner of the volume.")
@how_options
def command(folder: Path, small: bool, how: Callable[[], How]) -> None:
    """Segment a real EM volume in FOLDER (cadseg-demo, if not given), score it and draw it."""
    from cadseg.pipeline.demo import demo

    made = demo(folder, small, how())
    scores = made.scores
    click.echo(
        f"VOI split {scores.voi_split:.3f} + merge {scores.voi_merge:.3f} = {scores.voi_sum:.3f} "
        f"bits, ARAND {scores.arand:.3f} against neurons corrected by hand"
    )
    click.echo(f"run: {made.out}\npicture: {made.picture}")
