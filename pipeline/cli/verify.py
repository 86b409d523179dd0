"""``cadseg verify``: whether all files of a run are what its blocks have written."""

from __future__ import annotations

import click


@click.command("verify")
@click.argument("out")
@click.option("--repair", is_flag=True, help="Have what is damaged computed again by the next run.")
@click.option(
    "--workers", type=click.IntRange(1), default=4, show_default=True, help="Files at a time."
)
def command(out: str, repair: bool, workers: int) -> int:
    """Read all files of the run in OUT, and compare them with the records of its blocks.

    Exits with 1 where a file is damaged. With --repair the blocks of such files count as not done:
    the command that made the run, given again, computes them again.
    """
    from cadseg.pipeline.run import verify

    verified, lost = verify(out, repair=repair, workers=workers)
    for error in lost:
        click.echo(f"{out}/{error}")
    click.echo(str(verified))
    if lost and repair:
        click.echo("their blocks are computed again when the run goes on: give its command again")
    return int(bool(lost) and not repair)
