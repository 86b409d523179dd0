"""Laws of a run of many steps: its order, what fails and what does not, what is done again."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import toy_run
from toy_run import AWRY, UP_AND_DOWN, quiet, violations

from cadseg.errors import StageError
from cadseg.pipeline.execution import driver
from cadseg.pipeline.execution.attempt import LEAST, UNKNOWN, Pace
from cadseg.pipeline.execution.driver import run_steps
from cadseg.pipeline.execution.notes import notes
from cadseg.pipeline.execution.outcome import StepOutcome, check
from cadseg.pipeline.execution.records import tally
from cadseg.pipeline.execution.waves import waves
from cadseg.storage.files import open_files
from cadseg.workers import manifest as manifests
from cadseg.workers.manifest import Manifest
from cadseg.workers.names import record_name
from cadseg.workers.records import encode
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from pathlib import Path


def counts(outcomes: dict[str, StepOutcome]) -> dict[str, tuple[int, int, int]]:
    """Blocks done, failed and left, per step."""
    return {name: (found.done, found.failed, found.left) for name, found in outcomes.items()}


def most_at_once(out: Path) -> int:
    """The largest number of blocks that were computed at the same time."""
    lines = [line.split() for line in (out / "toy.log").read_text().splitlines()]
    moments = [(float(begin), 1) for _, _, begin, _, _, _ in lines]
    moments += [(float(end), -1) for _, _, _, end, _, _ in lines]
    return max(np.cumsum([change for _, change in sorted(moments)]))


def test_no_block_begins_before_what_it_reads(tmp_path: Path) -> None:
    """Five steps up and down the levels, by three processes: the order holds, no more compute."""
    out = toy_run.folder(tmp_path, sleep=0.02, **AWRY)
    check(run_steps(out, UP_AND_DOWN, quiet(workers=3)), str(out))
    assert violations(out, UP_AND_DOWN) == 0
    assert 2 <= most_at_once(out) <= 3


def test_waves_keep_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where daisy is told of few blocks at a time, all are done, once, after what they read."""
    monkeypatch.setattr(driver, "waves", partial(waves, most=6))
    out = toy_run.folder(tmp_path, shape=(20, 20, 30), bad=["b-0.0.1"])
    steps = [toy_run.step("a"), toy_run.step("b", "a", level=1), toy_run.step("c", "b", level=2)]
    assert counts(run_steps(out, steps, quiet(workers=2))) == {
        "a": (12, 0, 0),
        "b": (1, 1, 0),
        "c": (0, 0, 1),
    }
    toy_run.behave(out)
    check(run_steps(out, steps, quiet(workers=2)), str(out))
    assert violations(out, steps) == 0
    tried = {path.name: path.read_text() for path in (out / "toy-attempts").iterdir()}
    assert tried.pop("b-0.0.1") == "...."
    assert set(tried.values()) == {"."}


@pytest.mark.parametrize("order", [None, 1, 2, 3])
def test_no_block_begins_early_in_one_process(tmp_path: Path, order: int | None) -> None:
    """In one process, in any order of the blocks, with errors now and then, the order holds."""
    out = toy_run.folder(tmp_path, fail=0.1, **AWRY)
    check(
        run_steps(out, UP_AND_DOWN, quiet(workers=1, serial=True), order=order),
        out,
    )
    assert violations(out, UP_AND_DOWN) == 0


@pytest.mark.parametrize("serial", [True, False])
def test_a_bad_block_fails_alone(
    tmp_path: Path, serial: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """One bad block is tried three times; blocks that read it are left, all others are done."""
    out = toy_run.folder(tmp_path, bad=["a-1.1.1"])
    steps = [toy_run.step("a"), toy_run.step("b", "a")]
    found = run_steps(out, steps, quiet(workers=2, serial=serial))
    assert counts(found) == {"a": (7, 1, 0), "b": (7, 0, 1)}
    assert (out / "toy-attempts" / "a-1.1.1").read_text() == "..."
    failure = found["a"].failures[0]
    assert failure.cell == (1, 1, 1)
    assert failure.error == "ValueError: block a-1.1.1 is beyond help"
    log = failure.log.read_text()
    assert 1 <= log.count(", attempt ") == log.count("Traceback") == log.count("ValueError: ")
    with pytest.raises(StageError, match=r"a: 1 of 8 blocks failed, first block 1\.1\.1: Value"):
        check(found, str(out))
    toy_run.behave(out)
    found = run_steps(out, steps, quiet(workers=2, serial=serial))
    assert counts(found)["b"] == (8, 0, 0)
    assert notes(Store.open(out).files, steps[0]) == {}
    assert capfd.readouterr() == ("", "")


def test_a_dying_or_hanging_worker_costs_one_attempt(tmp_path: Path) -> None:
    """Blocks that kill, crash or hang their process once are done; one that always does fails."""
    ways = {"kill": ["a-0.0.0"], "crash": ["a-0.1.0"], "hang": ["a-1.0.1"], "killer": ["a-1.1.1"]}
    out = toy_run.folder(tmp_path, **ways)
    found = run_steps(out, [toy_run.step("a")], quiet(workers=2, retries=1, timeout=4))
    tried = {path.name: path.read_text() for path in (out / "toy-attempts").iterdir()}
    assert sorted(tried.values()) == ["."] * 4 + [".."] * 4
    assert counts(found) == {"a": (7, 1, 0)}
    assert found["a"].failures[0].cell == (1, 1, 1)
    assert "process died" in found["a"].failures[0].error


@pytest.mark.parametrize("serial", [True, False])
def test_a_bug_in_every_block_ends_the_run(tmp_path: Path, serial: bool) -> None:
    """Where all first attempts fail, the rest is not tried."""
    out = toy_run.folder(tmp_path, shape=(100, 100, 100), always=["a"], sleep=0.05)
    started = time.monotonic()
    steps = [toy_run.step("a"), toy_run.step("b", "a")]
    found = run_steps(out, steps, quiet(workers=2, serial=serial))
    assert time.monotonic() - started < 60
    assert 3 <= found["a"].failed < 700
    assert found["b"].left == 1000
    with pytest.raises(StageError, match="blocks failed"):
        check(found, str(out))


@pytest.mark.slow
def test_places_are_given_back(tmp_path: Path) -> None:
    """Where the last worker upstream dies, one that waits for it makes room for another."""
    out = toy_run.folder(tmp_path, kill=["a-1.1.1"])
    steps = [toy_run.step("a"), toy_run.step("b", "a"), toy_run.step("c", "b", halo=(3, 3, 3))]
    check(run_steps(out, steps, quiet(workers=1)), str(out))
    assert violations(out, steps) == 0


def test_the_records_say_what_is_done(tmp_path: Path) -> None:
    """A block without its record is done again, and one with the record of something else, too."""
    out = toy_run.folder(tmp_path)
    store, step = Store.open(out), toy_run.step("a")
    check(run_steps(out, [step], quiet(workers=2)), str(out))
    store.files.remove(record_name("a", (0, 0, 1)))
    record = store.record(step, (1, 0, 1))
    assert record is not None
    other = dataclasses.replace(record, identity="xyz")
    store.files.write(record_name("a", (1, 0, 1)), encode("a", (1, 0, 1), other))
    store = Store.open(out)
    assert tally(store, step).blocks == 6
    check(run_steps(out, [step], quiet(workers=2)), str(out))
    tried = {path.name: path.read_text() for path in (out / "toy-attempts").iterdir()}
    again = [name for name, dots in tried.items() if dots == ".."]
    assert sorted(again) == ["a-0.0.1", "a-1.0.1"]


@pytest.mark.parametrize("serial", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_changed_stage_is_done_again(tmp_path: Path, serial: bool) -> None:
    """Where a stage is of something else than before, all its blocks are computed again."""
    out, step = toy_run.folder(tmp_path), toy_run.step("a")
    check(run_steps(out, [step], quiet(workers=2, serial=serial)), str(out))
    files = open_files(out)
    was = Store.open(out).manifest.model_dump_json(by_alias=True)
    manifests.write(files, Manifest.model_validate_json(was.replace("abc", "xyz")))
    check(run_steps(out, [step], quiet(workers=2, serial=serial)), str(out))
    assert {path.read_text() for path in (out / "toy-attempts").iterdir()} == {".."}


def test_nothing_to_do_takes_no_time(tmp_path: Path) -> None:
    """A finished run of thousands of blocks is seen to be finished in a moment."""
    out = toy_run.folder(tmp_path, shape=(100, 200, 200))
    step = toy_run.step("a")
    store = Store.open(out)
    for cell in store.grid.cells(0):
        store.write_record(step, store.grid.block(0, cell), {}, {}, 1.0)
    started = time.monotonic()
    check(run_steps(out, [step], quiet(workers=2)), str(out))
    assert time.monotonic() - started < 20
    assert not (out / "toy.log").exists()


def test_the_time_limit_follows_the_blocks() -> None:
    """A block may take 20 times the slowest so far, large ones longer, and never too little."""
    pace = Pace()
    assert pace.limit(100) == UNKNOWN
    pace.measure(1.0, 100)
    assert pace.limit(100) == LEAST
    pace.measure(100.0, 100)
    assert pace.limit(50) == pace.limit(100) == 2000
    assert pace.limit(1000) == 20_000


@pytest.mark.slow
def test_random_errors_are_repaired(tmp_path: Path) -> None:
    """Of 1,000 blocks whose reads fail at random in 2.5 % of all attempts, every one is done."""
    out = toy_run.folder(tmp_path, shape=(100, 100, 100), fail=0.025, seed=0)
    found = run_steps(out, [toy_run.step("a")], quiet(workers=2))
    assert counts(found) == {"a": (1000, 0, 0)}


@pytest.mark.slow
def test_random_deaths_are_repaired(tmp_path: Path) -> None:
    """Of 500 blocks in two steps whose workers die now and then, every one is done, in order."""
    out = toy_run.folder(tmp_path, shape=(100, 50, 50), die=0.05)
    steps = [toy_run.step("a"), toy_run.step("b", "a", halo=(3, 3, 3))]
    check(run_steps(out, steps, quiet(workers=3, retries=4)), str(out))
    assert violations(out, steps) == 0
