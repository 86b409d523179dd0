"""Laws of stopping a run, with real processes and real signals."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest
import toy_run
from toy_run import AWRY, UP_AND_DOWN, begin, children, living, quiet, until_under_way, violations

from cadseg.pipeline.execution import watch
from cadseg.pipeline.execution.driver import run_steps
from cadseg.pipeline.execution.notes import notes
from cadseg.pipeline.execution.outcome import check
from cadseg.pipeline.execution.records import tally
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_stops_the_run(tmp_path: Path, number: int) -> None:
    """Ctrl-C and SIGTERM end all processes soon, with exit code 130; the next run goes on."""
    out = toy_run.folder(tmp_path, shape=(50, 50, 50), sleep=0.05)
    run = begin(out, [toy_run.step("a")])
    until_under_way(out)
    below = children(run)
    assert len(below) >= 2
    run.send_signal(number)
    assert run.wait(timeout=10) == 130
    assert living(below) == []
    assert notes(Store.open(out).files, toy_run.step("a")) == {}
    _goes_on(out)


def test_workers_die_with_their_run(tmp_path: Path) -> None:
    """SIGKILL of the run leaves no process, not even one that hangs; the next run goes on."""
    out = toy_run.folder(tmp_path, shape=(50, 50, 50), sleep=0.05, hang=["a-0.0.0"])
    run = begin(out, [toy_run.step("a")])
    until_under_way(out)
    below = children(run)
    run.kill()
    run.wait()
    deadline = time.monotonic() + 5
    while living(below) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living(below) == []
    _goes_on(out)


@pytest.mark.slow
def test_the_end_of_the_server_is_the_end_of_the_run(tmp_path: Path) -> None:
    """Where daisy's server is killed, its workers go, too, and the run says so."""
    out = toy_run.folder(tmp_path, shape=(50, 50, 50), sleep=0.05)
    run = begin(out, [toy_run.step("a")])
    until_under_way(out)
    below = children(run)
    psutil.Process(run.pid).children()[0].kill()
    assert run.wait(timeout=10) == 1
    assert living(below) == []
    _goes_on(out)


def test_the_end_of_the_fork_server_costs_time_only(tmp_path: Path) -> None:
    """Where the process from which workers are forked is killed, others take their place."""
    out = toy_run.folder(tmp_path, shape=(50, 50, 50), sleep=0.02)
    run = begin(out, [toy_run.step("a")])
    until_under_way(out)
    server = psutil.Process(run.pid).children()[0]
    (fork_server,) = (one for one in server.children() if one.cmdline() == server.cmdline())
    workers = fork_server.children()
    fork_server.kill()
    assert run.wait(timeout=60) == 0
    assert workers
    assert living(workers) == []
    assert tally(Store.open(out), toy_run.step("a")).blocks == 125


def _goes_on(out: Path) -> None:
    before = tally(Store.open(out), toy_run.step("a")).blocks
    assert before < 125
    toy_run.behave(out)
    check(run_steps(out, [toy_run.step("a")], quiet(workers=2)), str(out))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("delay", [0.0, 0.5, 1.2, 2.0, 4.0])
def test_no_moment_is_bad_for_a_signal(tmp_path: Path, number: int, delay: float) -> None:
    """Whenever the signal comes, no process is left, and the next run ends with all blocks."""
    out = toy_run.folder(tmp_path, shape=(40, 40, 40), sleep=0.05)
    steps = [toy_run.step("a"), toy_run.step("b", "a", level=1, halo=(2, 2, 2))]
    run = begin(out, steps)
    time.sleep(delay)
    below = children(run)
    run.send_signal(number)
    run.wait(timeout=10)
    deadline = time.monotonic() + 5
    while living(below) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living(below) == []
    check(run_steps(out, steps, quiet(workers=2)), str(out))
    assert violations(out, steps) == 0


@pytest.mark.slow
def test_many_killed_runs_end_as_one(tmp_path: Path) -> None:
    """Killed again and again, the run ends with the files of a run that was left alone."""
    out = toy_run.folder(tmp_path / "killed", sleep=0.05, **AWRY)
    for delay in (1.0, 2.0, 3.0, 2.5, 1.5):
        run = begin(out, UP_AND_DOWN)
        time.sleep(delay)
        run.kill()
        run.wait()
    check(run_steps(out, UP_AND_DOWN, quiet(workers=2)), str(out))
    alone = toy_run.folder(tmp_path / "alone", **AWRY)
    check(run_steps(alone, UP_AND_DOWN, quiet(workers=1, serial=True)), str(alone))
    for step in UP_AND_DOWN:
        one, two = (sorted((f / f"toy-{step.name}").iterdir()) for f in (out, alone))
        assert [f.name for f in one] == [f.name for f in two]
        assert [f.read_text() for f in one] == [f.read_text() for f in two]


assert watch.POLL < 1  # else the tests of signals prove little
