"""Laws of the schedule, with real processes and real signals."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import daisy.v2 as daisy
import numpy as np
import psutil
import pytest
from funlib.geometry.roi import Roi as DaisyRoi
from hypothesis import given, settings
from hypothesis import strategies as st

from cadseg.blocks import Grid, Roi
from cadseg.errors import StageError
from cadseg.pipeline.execution import status, watch
from cadseg.pipeline.execution.attempt import LEAST, UNKNOWN, Pace
from cadseg.pipeline.execution.progress import Progress
from cadseg.pipeline.execution.schedule import check, geometry, run_steps
from cadseg.pipeline.execution.serial import needs, unfinished
from cadseg.workers.store import Store

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # workers copy it

import toy_run  # noqa: E402

if TYPE_CHECKING:
    from cadseg.pipeline.execution.schedule import StepOutcome
    from cadseg.workers.process import Step

QUIET = Progress(quiet=True)
# down and up the levels, with halos, on a domain that begins in the middle of cells
AWRY: dict[str, object] = {"shape": (41, 37, 33), "roi": [[13, 41], [5, 30], [9, 33]]}
UP_AND_DOWN = [
    toy_run.step("a"),
    toy_run.step("b", "a", level=1, halo=(3, 3, 3)),
    toy_run.step("c", "b", level=2),
    toy_run.step("d", "c", level=1, halo=(0, 4, 0)),
    toy_run.step("e", "d", "a", halo=(2, 2, 2)),
]


def counts(outcomes: dict[str, StepOutcome]) -> dict[str, tuple[int, int, int]]:
    """Blocks done, failed and left, per step."""
    return {name: (found.done, found.failed, found.left) for name, found in outcomes.items()}


def violations(out: Path, steps: list[Step]) -> int:
    """Blocks that began before a block that they read was done."""
    grid = Store.open(out).grid
    known = {step.name: step for step in steps}
    begun, ended = {}, {}
    for line in (out / "toy.log").read_text().splitlines():
        name, key, begin, end, _, how = line.split()
        begun[name, key] = min(float(begin), begun.get((name, key), np.inf))
        if how == "done":
            ended[name, key] = float(end)
    wrong = 0
    for (name, key), begin in begun.items():
        step = known[name]
        read = grid.block(step.level, tuple(map(int, key.split("."))), step.halo).read
        for up in step.after:
            for cell in grid.cells(known[up].level):
                meets = grid.block(known[up].level, cell).write.clipped(read).size > 0
                wrong += meets and ended[up, ".".join(map(str, cell))] > begin
    return wrong


def most_at_once(out: Path) -> int:
    """The largest number of blocks that were computed at the same time."""
    lines = [line.split() for line in (out / "toy.log").read_text().splitlines()]
    moments = [(float(begin), 1) for _, _, begin, _, _, _ in lines]
    moments += [(float(end), -1) for _, _, _, end, _, _ in lines]
    return max(np.cumsum([change for _, change in sorted(moments)]))


sizes = st.integers(1, 40)
halos = st.tuples(*[st.integers(0, 7)] * 3)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """A grid whose domain begins and ends anywhere."""
    shape = draw(st.tuples(sizes, sizes, sizes))
    begin = tuple(draw(st.integers(0, n - 1)) for n in shape)
    end = tuple(draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True))
    return Grid(shape, Roi(begin, end), draw(st.tuples(*[st.integers(3, 12)] * 3)))


@settings(deadline=None, max_examples=50)
@given(grid=grids(), level=st.integers(0, 2), halo=halos)
def test_daisy_writes_every_cell_once(grid: Grid, level: int, halo: tuple[int, int, int]) -> None:
    """The blocks that daisy plans are the cells of the grid, border and halo or not."""
    step = toy_run.step("a", level=level, halo=halo)
    total, read, write = (DaisyRoi(r.begin, r.shape) for r in geometry(grid, step))
    plan = daisy.BlockwiseDependencyGraph("a", read, write, False, "overhang", total)
    begins = [block.write_roi.begin for block, _ in plan.enumerate_all_dependencies()]
    shape = grid.cell_shape(level)
    cells = [tuple(b // n for b, n in zip(begin, shape, strict=True)) for begin in begins]
    assert sorted(cells) == list(grid.cells(level))


@settings(deadline=None, max_examples=50)
@given(grid=grids(), level=st.integers(0, 2), halo=halos, up=st.integers(0, 2))
def test_a_block_needs_what_it_reads(
    grid: Grid, level: int, halo: tuple[int, int, int], up: int
) -> None:
    """The blocks that a block waits for are those with a voxel that it reads."""
    step, upstream = toy_run.step("b", level=level, halo=halo), toy_run.step("a", level=up)
    for cell in grid.cells(level):
        read = grid.block(level, cell, halo).read
        others = grid.cells(up)
        expected = [c for c in others if grid.block(up, c).write.clipped(read).size]
        assert list(needs(grid, step, cell, upstream)) == expected


def test_a_finished_step_is_left_out_and_its_order_kept() -> None:
    """What comes after a finished step waits for what comes before it."""
    grid = Grid((8, 8, 8), Roi((0, 0, 0), (8, 8, 8)), (8, 8, 8))
    steps = [toy_run.step("c", "b"), toy_run.step("b", "a", "elsewhere"), toy_run.step("a")]
    one = {(0, 0, 0)}
    found = unfinished(grid, steps, {"a": set(), "b": one, "c": set()})
    assert [(step.name, step.after) for step in found] == [("a", ()), ("c", ("a",))]
    assert unfinished(grid, steps, {"a": one, "b": one, "c": one}) == []


def test_no_block_begins_before_what_it_reads(tmp_path: Path) -> None:
    """Five steps up and down the levels, by three processes: the order holds, no more compute."""
    out = toy_run.folder(tmp_path, sleep=0.02, **AWRY)
    check(run_steps(out, UP_AND_DOWN, workers=3, show=QUIET))
    assert violations(out, UP_AND_DOWN) == 0
    assert 2 <= most_at_once(out) <= 3


@pytest.mark.parametrize("order", [None, 1, 2, 3])
def test_no_block_begins_early_in_one_process(tmp_path: Path, order: int | None) -> None:
    """In one process, in any order of the blocks, with errors now and then, the order holds."""
    out = toy_run.folder(tmp_path, fail=0.1, **AWRY)
    check(run_steps(out, UP_AND_DOWN, workers=1, serial=True, order=order, show=QUIET))
    assert violations(out, UP_AND_DOWN) == 0


@pytest.mark.parametrize("serial", [True, False])
def test_a_bad_block_fails_alone(
    tmp_path: Path, serial: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """One bad block is tried three times; blocks that read it are left, all others are done."""
    out = toy_run.folder(tmp_path, bad=["a-1.1.1"])
    steps = [toy_run.step("a"), toy_run.step("b", "a")]
    found = run_steps(out, steps, workers=2, serial=serial, show=QUIET)
    assert counts(found) == {"a": (7, 1, 0), "b": (7, 0, 1)}
    assert (out / "toy-attempts" / "a-1.1.1").read_text() == "..."
    failure = found["a"].failures[0]
    assert failure.cell == (1, 1, 1)
    assert failure.error == "ValueError: block a-1.1.1 is beyond help"
    log = failure.log.read_text()
    assert 1 <= log.count(", attempt ") == log.count("Traceback") == log.count("ValueError: ")
    with pytest.raises(StageError, match=r"a: 1 of 8 blocks failed, first block 1\.1\.1: Value"):
        check(found)
    toy_run.behave(out)
    assert counts(run_steps(out, steps, workers=2, serial=serial, show=QUIET))["b"] == (8, 0, 0)
    assert status.notes(Store.open(out).files, steps[0]) == {}
    assert capfd.readouterr() == ("", "")


def test_a_dying_or_hanging_worker_costs_one_attempt(tmp_path: Path) -> None:
    """Blocks that kill, crash or hang their process once are done; one that always does fails."""
    ways = {"kill": ["a-0.0.0"], "crash": ["a-0.1.0"], "hang": ["a-1.0.1"], "killer": ["a-1.1.1"]}
    out = toy_run.folder(tmp_path, **ways)
    found = run_steps(out, [toy_run.step("a")], workers=2, retries=1, timeout=4, show=QUIET)
    tried = {path.name: path.read_text() for path in (out / "toy-attempts").iterdir()}
    assert sorted(tried.values()) == ["."] * 4 + [".."] * 4
    assert counts(found) == {"a": (7, 1, 0)}
    assert found["a"].failures[0].cell == (1, 1, 1)
    assert "process died" in found["a"].failures[0].error


@pytest.mark.parametrize("serial", [True, False])
def test_a_bug_in_every_block_ends_the_run(tmp_path: Path, serial: bool) -> None:
    """Where all first attempts fail, the rest is not tried."""
    out = toy_run.folder(tmp_path, shape=(100, 100, 100), always=["a"])
    started = time.monotonic()
    steps = [toy_run.step("a"), toy_run.step("b", "a")]
    found = run_steps(out, steps, workers=2, serial=serial, show=QUIET)
    assert time.monotonic() - started < 60
    assert 3 <= found["a"].failed < 700
    assert found["b"].left == 1000
    with pytest.raises(StageError, match="blocks failed"):
        check(found)


@pytest.mark.slow
def test_places_are_given_back(tmp_path: Path) -> None:
    """Where the last worker upstream dies, one that waits for it makes room for another."""
    out = toy_run.folder(tmp_path, kill=["a-1.1.1"])
    steps = [toy_run.step("a"), toy_run.step("b", "a"), toy_run.step("c", "b", halo=(3, 3, 3))]
    check(run_steps(out, steps, workers=1, show=QUIET))
    assert violations(out, steps) == 0


def test_the_records_say_what_is_done(tmp_path: Path) -> None:
    """A block without its record is done again, and one with the record of something else, too."""
    out = toy_run.folder(tmp_path)
    store, step = Store.open(out), toy_run.step("a")
    check(run_steps(out, [step], workers=2, show=QUIET))
    store.files.remove(store.record_name("a", (0, 0, 1)))
    other = out / store.record_name("a", (1, 0, 1))
    other.write_text(other.read_text().replace("abc", "xyz"))
    assert len(status.records(store, step)) == 6
    check(run_steps(out, [step], workers=2, show=QUIET))
    tried = {path.name: path.read_text() for path in (out / "toy-attempts").iterdir()}
    again = [name for name, dots in tried.items() if dots == ".."]
    assert sorted(again) == ["a-0.0.1", "a-1.0.1"]


@pytest.mark.parametrize("serial", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_changed_stage_is_done_again(tmp_path: Path, serial: bool) -> None:
    """Where a stage is of something else than before, all its blocks are computed again."""
    out, step = toy_run.folder(tmp_path), toy_run.step("a")
    check(run_steps(out, [step], workers=2, serial=serial, show=QUIET))
    run = out / "run.json"
    run.write_text(run.read_text().replace("abc", "xyz"))
    check(run_steps(out, [step], workers=2, serial=serial, show=QUIET))
    assert {path.read_text() for path in (out / "toy-attempts").iterdir()} == {".."}


def test_nothing_to_do_takes_no_time(tmp_path: Path) -> None:
    """A finished run of thousands of blocks is seen to be finished in a moment."""
    out = toy_run.folder(tmp_path, shape=(100, 200, 200))
    step = toy_run.step("a")
    store = Store.open(out)
    for cell in store.grid.cells(0):
        store.write_record("a", "toy", store.grid.block(0, cell), {}, time.monotonic())
    started = time.monotonic()
    check(run_steps(out, [step], workers=2, show=QUIET))
    assert time.monotonic() - started < 20
    assert not (out / "toy.log").exists()


def test_tracking_may_lie_elsewhere(tmp_path: Path) -> None:
    """The folder for daisy's tracking is the user's choice, and what else is in it stays."""
    mine = tmp_path / "elsewhere" / "a" / "mine"
    mine.mkdir(parents=True)
    out = toy_run.folder(tmp_path / "out")
    run_steps(out, [toy_run.step("a")], workers=1, tracking=tmp_path / "elsewhere", show=QUIET)
    assert not (out / "tracking").exists()
    assert mine.is_dir()
    assert len(list(mine.parent.parent.glob("cadseg-*/a/*/wall_seconds"))) == 1


def test_the_time_limit_follows_the_blocks() -> None:
    """A block may take 20 times the slowest so far, large ones longer, and never too little."""
    pace = Pace()
    assert pace.limit(100) == UNKNOWN
    pace.measure(1.0, 100)
    assert pace.limit(100) == LEAST
    pace.measure(100.0, 100)
    assert pace.limit(50) == pace.limit(100) == 2000
    assert pace.limit(1000) == 20_000


# signals -------------------------------------------------------------------------------------


def begin(out: Path, steps: list[Step], workers: int = 2) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own."""
    (out / "steps").write_bytes(pickle.dumps(steps))
    command = [sys.executable, str(HERE / "toy_run.py"), str(out), str(out / "steps"), str(workers)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def until_under_way(out: Path) -> None:
    """Wait until blocks are computed."""
    while not (out / "toy.log").exists():
        time.sleep(0.02)


def children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """All processes below a run."""
    return psutil.Process(process.pid).children(recursive=True)


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    found = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


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
    assert status.notes(Store.open(out).files, toy_run.step("a")) == {}
    _goes_on(out)


def test_workers_die_with_their_scheduler(tmp_path: Path) -> None:
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


def test_the_end_of_the_nursery_costs_time_only(tmp_path: Path) -> None:
    """Where the process from which workers are forked is killed, others take their place."""
    out = toy_run.folder(tmp_path, shape=(50, 50, 50), sleep=0.02)
    run = begin(out, [toy_run.step("a")])
    until_under_way(out)
    server = psutil.Process(run.pid).children()[0]
    (nursery,) = (one for one in server.children() if one.cmdline() == server.cmdline())
    workers = nursery.children()
    nursery.kill()
    assert run.wait(timeout=60) == 0
    assert workers
    assert living(workers) == []
    assert len(status.records(Store.open(out), toy_run.step("a"))) == 125


def _goes_on(out: Path) -> None:
    before = len(status.records(Store.open(out), toy_run.step("a")))
    assert before < 125
    toy_run.behave(out)
    check(run_steps(out, [toy_run.step("a")], workers=2, show=QUIET))


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
    check(run_steps(out, steps, workers=2, show=QUIET))
    assert violations(out, steps) == 0


@pytest.mark.slow
def test_random_errors_are_repaired(tmp_path: Path) -> None:
    """Of 1,000 blocks whose reads fail at random in 2.5 % of all attempts, every one is done."""
    out = toy_run.folder(tmp_path, shape=(100, 100, 100), fail=0.025, seed=0)
    found = run_steps(out, [toy_run.step("a")], workers=2, show=QUIET)
    assert counts(found) == {"a": (1000, 0, 0)}


@pytest.mark.slow
def test_random_deaths_are_repaired(tmp_path: Path) -> None:
    """Of 500 blocks in two steps whose workers die now and then, every one is done, in order."""
    out = toy_run.folder(tmp_path, shape=(100, 50, 50), die=0.05)
    steps = [toy_run.step("a"), toy_run.step("b", "a", halo=(3, 3, 3))]
    check(run_steps(out, steps, workers=3, retries=4, show=QUIET))
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
    check(run_steps(out, UP_AND_DOWN, workers=2, show=QUIET))
    alone = toy_run.folder(tmp_path / "alone", **AWRY)
    check(run_steps(alone, UP_AND_DOWN, workers=1, serial=True, show=QUIET))
    for step in UP_AND_DOWN:
        one, two = (sorted((f / f"toy-{step.name}").iterdir()) for f in (out, alone))
        assert [f.name for f in one] == [f.name for f in two]
        assert [f.read_text() for f in one] == [f.read_text() for f in two]


assert watch.POLL < 1  # else the tests of signals prove little
