"""The command line: each command parses, calls one function of the library, prints the result.

Exit codes: 0 done; 1 blocks failed, finished ones are kept; 2 an error of the user, found before
anything is written; 130 stopped by Ctrl-C or SIGTERM, finished blocks are kept.
"""

from __future__ import annotations

import importlib
import shlex
import signal
import sys

import click

from cadseg import __version__
from cadseg.errors import CadsegError, StageError

COMMANDS = (
    "predict",
    "segment",
    "plan",
    "status",
    "relabel",
    "verify",
    "evaluate",
    "weights",
    "train",
    "demo",
)


LONGEST = 400
"""Characters of a word that are shown; of a longer one the ends."""

# click 8.1 shows a group's help itself
HELP = getattr(click.exceptions, "NoArgsIsHelpError", ())


class _Commands(click.Group):
    """Commands in the order of use, each in a module that is imported only when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return command


@click.group(cls=_Commands)
@click.version_option(__version__)
def cadseg() -> None:
    """Segment the neurons in a volume of electron microscopy, however large."""


def main() -> None:
    """Run the command line; errors that a user can repair are one sentence on stderr."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        if code := cadseg.main(prog_name="cadseg", standalone_mode=False):
            sys.exit(code)  # of a command that has found something, such as damage
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        if isinstance(error, HELP):
            error.show()
        else:
            _say(error.format_message())
        sys.exit(error.exit_code)
    except CadsegError as error:
        _say(str(error))
        sys.exit(1 if isinstance(error, StageError) else 2)
    except OSError as error:
        _say(str(error))
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        words = ["cadseg", *sys.argv[1:]]
        if words[1:2] == ["train"] and "--resume" not in words:
            words.append("--resume")
        click.echo(f"Stopped; what is finished is kept. To go on: {shlex.join(words)}", err=True)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(problem: str) -> None:
    """One line on stderr, whatever the words of others in it hold."""
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in problem)
    half = LONGEST // 2
    words = (w if len(w) <= LONGEST else f"{w[:half]}...{w[-half:]}" for w in shown.split(" "))
    click.echo(f"Error: {' '.join(words)}", err=True)
