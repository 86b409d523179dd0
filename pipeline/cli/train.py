"""``cadseg train``: a student of one's own."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("train")
@click.argument("config", metavar="CONFIG")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for the results."
)
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Change a key.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in that folder.")
def command(config: str, out: Path, sets: tuple[str, ...], resume: bool) -> None:
    """Train a student on the labelled volumes that CONFIG names: a YAML file, or a name.

    On several GPUs: torchrun --nproc-per-node 4 --no-python cadseg train ...
    """
    from cadseg.models.training import recipe
    from cadseg.models.training.train import train

    train(recipe.load(config, sets), out, resume=resume)
