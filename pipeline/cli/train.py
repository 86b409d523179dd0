"""``cadseg train``: a student of one's own."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("train")
@click.argument("config", metavar="CONFIG")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for the results."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in that folder.")
def command(config: str, out: Path, resume: bool) -> None:
    """Train a student on the labelled volumes that CONFIG, a YAML file, names."""
    from cadseg.models import train

    click.echo(train.train(train.load_config(Path(config)), out, resume=resume))
