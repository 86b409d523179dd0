"""``cadseg weights``: weights files."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("weights")
def command() -> None:
    """Weights of networks."""


@command.command("import")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def import_(checkpoint: Path, out: Path) -> None:
    """Turn CHECKPOINT, one of the published CAD students, into OUT, a .safetensors file."""
    from cadseg.models.published import import_published

    import_published(checkpoint, out)
    click.echo(out)
