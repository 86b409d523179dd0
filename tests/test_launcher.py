"""The seam between the server and its workers: another launcher changes nothing but the place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil
import pytest
import real_run as real
import toy_launcher
import toy_run

from cadseg.errors import ConfigError
from cadseg.pipeline import run
from cadseg.pipeline.execution import driver
from cadseg.pipeline.execution.driver import run_steps
from cadseg.pipeline.execution.outcome import check

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _more_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows in the table of launchers: all that a new one takes beside its file."""
    monkeypatch.setattr(driver, "LAUNCHERS", driver.LAUNCHERS | toy_launcher.LAUNCHERS)


@pytest.mark.parametrize("launcher", toy_launcher.LAUNCHERS)
def test_a_killed_worker_costs_one_attempt(tmp_path: Path, launcher: str) -> None:
    """Workers of another launcher do all blocks, also where one is killed, and then they end."""
    out = toy_run.folder(tmp_path, shape=(20, 20, 10), kill=["a-1.0.0"])
    steps = [toy_run.step("a"), toy_run.step("b", "a", level=1)]
    check(run_steps(out, steps, toy_run.quiet(workers=2, launcher=launcher)), str(out))
    tried = {path.name: path.read_text() for path in (out / "toy-attempts").iterdir()}
    assert tried == dict.fromkeys(("a-0.0.0", "a-0.1.0", "a-1.1.0", "b-0.0.0"), ".") | {
        "a-1.0.0": ".."
    }
    lines = [line.split() for line in (out / "toy.log").read_text().splitlines()]
    assert not any(psutil.pid_exists(int(pid)) for *_, pid, _ in lines)


@pytest.mark.parametrize("launcher", toy_launcher.LAUNCHERS)
def test_workers_end_with_their_server(tmp_path: Path, launcher: str) -> None:
    """SIGKILL of the run leaves none of its workers, wherever they are."""
    out = toy_run.folder(tmp_path, shape=(50, 50, 50), sleep=0.05)
    run = toy_run.begin(out, [toy_run.step("a")], launcher=launcher)
    toy_run.until_under_way(out)
    below = toy_run.children(run)
    assert any("cadseg.pipeline.execution.worker" in process.cmdline() for process in below)
    run.kill()
    run.wait()
    deadline = time.monotonic() + 5
    while toy_run.living(below) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert toy_run.living(below) == []


@pytest.mark.parametrize("until", ["fragments", pytest.param(None, marks=pytest.mark.slow)])
def test_launchers_change_no_byte(tmp_path: Path, until: str | None) -> None:
    """A run from affinities by another launcher leaves the files of a local one."""
    affs = real.volume(tmp_path / "affs.zarr", real.affinities())
    outs = {name: tmp_path / f"{name}.zarr" for name in ("local", "elsewhere")}
    for name, out in outs.items():
        execution = toy_run.quiet(workers=2, launcher=name)
        run.segment(str(affs), execution, out=out, overrides=real.SETS, until=until)
    assert real.records(outs["local"]) > 15
    assert real.differing(*outs.values()) == []


def test_an_unknown_launcher_is_refused() -> None:
    """The refusal names the launchers that there are; and a run without workers is none."""
    with pytest.raises(ConfigError, match="launcher moon: there is none; accepted are local, "):
        toy_run.quiet(launcher="moon")
    with pytest.raises(ConfigError, match="workers is 0; accepted are 1 to 100000"):
        toy_run.quiet(workers=0)
