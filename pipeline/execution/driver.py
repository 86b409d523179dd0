"""The driver: the process of the user's command, which has all blocks of a run computed.

It finds by the records which blocks are done, starts the server
(`cadseg.pipeline.execution.server`) for the others, follows it by looking at the records, and ends
it. Because the server is another process, the user's keeps its signal handlers, its streams and its
memory.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cadseg.errors import ConfigError
from cadseg.pipeline.execution.guard import Guard
from cadseg.pipeline.execution.local import local
from cadseg.pipeline.execution.notes import clear_notes
from cadseg.pipeline.execution.outcome import StepOutcome, outcome
from cadseg.pipeline.execution.progress import Progress
from cadseg.pipeline.execution.repair import Repair
from cadseg.pipeline.execution.serial import run_serial, unfinished
from cadseg.pipeline.execution.server import ServerConfig, serve
from cadseg.pipeline.execution.verify import verify
from cadseg.pipeline.execution.watch import Watch, follow, stoppable
from cadseg.pipeline.execution.waves import finished, waves
from cadseg.storage.files import resolved
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from cadseg.pipeline.execution.done import Done
    from cadseg.pipeline.execution.launcher import Launcher
    from cadseg.pipeline.execution.watch import Show
    from cadseg.pipeline.execution.waves import Part
    from cadseg.storage.files import Files
    from cadseg.workers.step import Step

MOST = 100_000
"""Workers."""

VERIFYING = 5.0
"""Seconds for which a command reads what earlier ones have left: all of it, in small runs."""

LAUNCHERS: dict[str, Callable[[], Launcher]] = {"local": local}
"""Where workers can be: each is called in the server's process, before that has any thread."""


@dataclass(frozen=True)
class Execution:
    """How to run: nothing of it changes the result.

    Attributes:
        workers: processes that compute at the same time.
        serial: compute in this process, one block after the other, for debugging.
        retries: how often a failed block is tried again.
        timeout: seconds that a block may take; None for a limit from the blocks measured so far.
        launcher: where the workers are: a name in `LAUNCHERS`.
        progress: is told about the progress.
    """

    workers: int = 1
    serial: bool = False
    retries: int = 2
    timeout: float | None = None
    launcher: str = "local"
    progress: Show = field(default_factory=Progress)

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            ConfigError: no worker, no time, or a launcher that is not there.
        """
        if not 1 <= self.workers <= MOST:
            raise ConfigError(f"workers is {self.workers}; accepted are 1 to {MOST}")
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise ConfigError(f"timeout is {self.timeout}; accepted are seconds above 0")
        if self.launcher not in LAUNCHERS:
            names = ", ".join(LAUNCHERS)
            raise ConfigError(f"launcher {self.launcher}: there is none; accepted are {names}")


def run_steps(
    out: str | Path,
    steps: Sequence[Step],
    execution: Execution,
    *,
    order: int | None = None,
    looks: Collection[str] | None = None,
    check: Callable[[], None] | None = None,
) -> dict[str, StepOutcome]:
    """Compute every block of `steps` that is not done yet.

    Args:
        out: where the run lies.
        steps: in any order; `Step.after` may name steps that are not among them.
        execution: how.
        order: seed that shuffles the blocks of a serial run; None for the plan's order.
        looks: stages of which all files are looked for first; None for all.
        check: raises an `OSError` where the run cannot go on; None for what its files say.

    Raises:
        OSError: nothing can be written any more, or the disk does not answer.
        StageError: the server failed.
        Interrupted: by a signal.
    """
    store = Store.open(resolved(out))
    repair = Repair(store)
    repair.reported()  # of a run that was stopped
    looked = [step for step in steps if looks is None or step.stage in looks]
    done = {step.name: repair.done(step, look=step in looked) for step in steps}
    _, found = verify(store, looked, execution.workers, VERIFYING)
    lost = repair.withdraw(found)
    check = check or store.files.check
    while True:
        done |= {step.name: repair.done(step, look=False) for step in steps if step.name in lost}
        _compute(store, steps, execution, order, done, check)
        lost = repair.reported()
        if not lost:
            break
    return {step.name: outcome(store, step, repair.lost[step.name]) for step in steps}


def _compute(
    store: Store,
    steps: Sequence[Step],
    execution: Execution,
    order: int | None,
    done: Mapping[str, Done],
    check: Callable[[], None],
) -> None:
    """Go through the steps once."""
    for step in steps:
        clear_notes(store.files, step)
    todo = unfinished(store.grid, steps, done)
    watch = Watch(store, todo, done, execution.progress, execution.workers)
    guard = Guard(check, watch.check)
    with stoppable(at_once=execution.serial) as stop, contextlib.ExitStack() as stack, guard:
        stack.callback(execution.progress.stop)
        if todo:
            store.files.tidy()
        if execution.serial:
            run_serial(store, todo, watch, guard, retries=execution.retries, order=order)
        else:
            for wave in waves(store.grid, todo, done):
                log = store.files.local("logs/server.log")
                _run_apart(_config(store.files, wave, done, execution), log, watch, guard, stop)
                if not finished(wave):
                    break
        guard.check()


def _config(
    files: Files,
    wave: Sequence[Part],
    done: Mapping[str, Done],
    execution: Execution,
) -> ServerConfig:
    return ServerConfig(
        out=files.url,
        wave=wave,
        paces={part.step.name: done[part.step.name].pace for part in wave},
        workers=execution.workers,
        retries=execution.retries,
        timeout=execution.timeout,
        launcher=LAUNCHERS[execution.launcher],
        parent=os.getpid(),
    )


def _run_apart(
    config: ServerConfig, log: Path, watch: Watch, guard: Guard, stop: Sequence[int]
) -> None:
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    with log.open("ab") as sink:
        server = subprocess.Popen(
            [sys.executable, "-c", f"from {serve.__module__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=sink,
            env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )
    assert server.stdin is not None
    with contextlib.suppress(BrokenPipeError), server.stdin as pipe:
        pipe.write(pickle.dumps(config))
    follow(server, watch, guard, stop, log)
