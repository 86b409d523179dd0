"""Options that several commands share, and what they say to the library."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from cadseg.pipeline.cli import parse

if TYPE_CHECKING:
    from cadseg.config import Override
    from cadseg.pipeline.execution.driver import Execution

F = Callable[..., Any]


RUN = (
    click.option("--out", help="Folder of the run."),
    click.option("--config", metavar="NAME_OR_FILE", help="ssem, fibsem, or a YAML file."),
    click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Change a key."),
)
NETWORK = (
    click.option(
        "--weights", metavar="NAME_OR_FILE", help="default-ssem, default-fibsem, or a file."
    ),
    click.option("--discard-affinities", is_flag=True, help="Never write affinities."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="To predict on."),
)
VOLUME = (
    click.option("--roi", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Part of the volume, voxels."),
    click.option("--mask", metavar="MASK", help="Volume that is 0 where nothing is."),
    click.option("--threshold", type=float, help="Merge at this affinity and above, 0..1."),
    click.option("--voxel-size", metavar="Z,Y,X", help="In nm, if metadata has none."),
    click.option("--until", metavar="STAGE", help="Stop after this stage."),
    click.option("--restart", is_flag=True, help="Redo stages whose inputs changed."),
    click.option("--verify-input", is_flag=True, help="Compare all voxels of VOLUME and MASK."),
)
EXECUTION = (
    click.option(
        "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes."
    ),
    click.option("--serial", is_flag=True, help="Everything in this process, for debugging."),
    click.option("--timeout", type=float, help="Seconds that a block may take."),
)
REQUESTED = ("out", "config", "until", "restart", "verify_input")
"""Options that say the same to the library."""

SHORTHANDS = {
    "mask": "volume.mask",
    "threshold": "segment.threshold",
    "weights": "predict.weights",
    "device": "predict.device",
}
"""Options that set a key of the config to their value."""


def request_options(raw: bool) -> Callable[[F], F]:
    """Options that say what to segment and with which numbers; passed on as ``request``.

    Args:
        raw: whether the command starts from raw, and so has options for the network.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            request = {name: given.pop(name) for name in REQUESTED}
            request["overrides"] = _overrides(given)
            return function(request=request, **given)

        return _with_options(command, (*RUN, *(NETWORK if raw else ()), *VOLUME))

    return decorate


def execution_options(function: F) -> F:
    """Options that say how to run, which never change the result; passed on as ``execution``."""

    @functools.wraps(function)
    def command(workers: int, serial: bool, timeout: float | None, **given: Any) -> Any:
        def execution() -> Execution:
            from cadseg.pipeline.execution.driver import Execution

            return Execution(workers=workers, serial=serial, timeout=timeout)

        return function(execution=execution, **given)

    return _with_options(command, EXECUTION)


def _with_options(command: F, options: Iterable[Callable[[F], F]]) -> F:
    """The command with these options, which its help shows in this order."""
    for option in reversed(tuple(options)):
        command = option(command)
    return command


def _overrides(given: dict[str, Any]) -> list[Override]:
    """What options say, after what was written as ``key=value``."""
    overrides: list[Override] = list(given.pop("sets"))
    box, size = given.pop("roi"), given.pop("voxel_size")
    if box is not None:
        overrides.append(("volume.roi", parse.roi(box)))
    if size is not None:
        overrides.append(("volume.voxel_size", parse.voxel_size(size)))
    if given.pop("discard_affinities", False):
        overrides.append(("predict.keep_affinities", False))
    values = {key: given.pop(name, None) for name, key in SHORTHANDS.items()}
    return overrides + [(key, value) for key, value in values.items() if value is not None]
