"""Options that several commands share, and what they say to the library."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cadseg.pipeline.run import How

F = Callable[..., Any]


def request_options(raw: bool) -> Callable[[F], F]:
    """Options that say what to segment and with which numbers; given on as ``request``.

    Args:
        raw: whether the command starts from raw, and so takes options for the network.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            names = ("out", "config", "until")
            request = {name: given.pop(name) for name in names}
            request["restart"] = given.pop("restart")
            request["overrides"] = _overrides(given)
            return function(request=request, **given)

        options = [
            click.option("--out", help="Folder of the run."),
            click.option("--config", metavar="NAME_OR_FILE", help="ssem, fibsem, or a YAML file."),
            click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Change a key."),
            click.option("--roi", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Part of the volume, voxels."),
            click.option("--mask", metavar="MASK", help="Volume that is 0 where nothing is."),
            click.option("--threshold", type=float, help="Merge at this affinity and above, 0..1."),
            click.option("--voxel-size", metavar="Z,Y,X", help="In nm, if metadata has none."),
            click.option("--until", metavar="STAGE", help="Stop after this stage."),
            click.option("--restart", is_flag=True, help="Redo stages whose inputs changed."),
        ]
        if raw:
            options[3:3] = [
                click.option(
                    "--weights",
                    metavar="NAME_OR_FILE",
                    help="default-ssem, default-fibsem, or a file.",
                ),
                click.option("--discard-affinities", is_flag=True, help="Never write affinities."),
                click.option(
                    "--device", type=click.Choice(["auto", "cpu", "cuda"]), help="To predict on."
                ),
            ]
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def how_options(function: F) -> F:
    """Options that say how to run, which never change the result; given on as ``how``."""

    @functools.wraps(function)
    def command(
        workers: int, serial: bool, timeout: float | None, tracking: Path | None, **given: Any
    ) -> Any:
        def how() -> How:
            from cadseg.pipeline.run import How

            return How(workers=workers, serial=serial, timeout=timeout, tracking=tracking)

        return function(how=how, **given)

    for option in (
        click.option("--tracking", type=click.Path(path_type=Path), help="Local folder for notes."),
        click.option("--timeout", type=float, help="Seconds that a block may take."),
        click.option("--serial", is_flag=True, help="Everything in this process, for debugging."),
        click.option(
            "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes."
        ),
    ):
        command = option(command)
    return command


def _overrides(given: dict[str, Any]) -> list[str]:
    """Shorthands as ``key=value``, after those that were written as such."""
    overrides = list(given.pop("sets"))
    roi, voxel_size = given.pop("roi"), given.pop("voxel_size")
    if roi is not None:
        overrides.append(f"volume.roi={pairs(roi)}")
    if voxel_size is not None:
        overrides.append(f"volume.voxel_size={_lengths(voxel_size)}")
    if given.pop("discard_affinities", False):
        overrides.append("predict.keep_affinities=false")
    for name, key in (
        ("mask", "volume.mask"),
        ("threshold", "segment.threshold"),
        ("weights", "predict.weights"),
        ("device", "predict.device"),
    ):
        value = given.pop(name, None)
        if value is not None:
            overrides.append(f"{key}={value}")
    return overrides


def pairs(text: str) -> list[list[int]]:
    """``z0:z1,y0:y1,x0:x1`` as begin and end by axis."""
    try:
        pairs = [[int(n) for n in part.split(":")] for part in text.split(",")]
        assert [len(pair) for pair in pairs] == [2, 2, 2]
    except (ValueError, AssertionError):
        raise click.BadParameter(
            f"{text} is no box; accepted is z0:z1,y0:y1,x0:x1, in voxels", param_hint="--roi"
        ) from None
    return pairs


def _lengths(text: str) -> list[float]:
    try:
        lengths = [float(part) for part in text.split(",")]
        assert len(lengths) == 3
    except (ValueError, AssertionError):
        raise click.BadParameter(
            f"{text} is no size; accepted is z,y,x, in nm", param_hint="--voxel-size"
        ) from None
    return lengths
