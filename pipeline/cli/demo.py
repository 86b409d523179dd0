"""``cadseg demo``: the whole run on the volume that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cadseg.pipeline.cli.options import execution_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.pipeline.execution.driver import Execution


@click.command("demo")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("cadseg-demo"))
@click.option("--small", is_flag=True, help="Only a corner of the volume.")
@execution_options
def command(folder: Path, small: bool, execution: Callable[[], Execution]) -> None:
    """Segment a real EM volume in FOLDER (cadseg-demo, if not given), score it and draw it."""
    from cadseg.pipeline.demo import demo

    made = demo(folder, small, execution())
    scores = made.scores
    click.echo(
        f"VOI split {scores.voi_split:.3f} + merge {scores.voi_merge:.3f} = {scores.voi_sum:.3f} "
        f"bits, ARAND {scores.arand:.3f} against neurons corrected by hand"
    )
    click.echo(f"run: {made.out}\npicture: {made.picture}")
