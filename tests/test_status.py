"""Laws of the status of a run: read from its folder alone."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import toy_run
from toy_run import quiet

from cadseg.pipeline.execution.driver import Execution, run_steps
from cadseg.pipeline.execution.notes import note_name, write_note
from cadseg.pipeline.execution.progress import Progress, span, speed
from cadseg.pipeline.execution.status import status
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from pathlib import Path

STEPS = [toy_run.step("a"), toy_run.step("b", "a", level=1)]


def test_a_new_run_has_everything_left(tmp_path: Path) -> None:
    """Before the first block nothing is done, nothing failed, and nobody can say how long."""
    out = toy_run.folder(tmp_path)
    one, two = status(Store.open(out), STEPS)
    assert (one.step, one.stage, one.done, one.failed, one.left, one.total) == (
        ("a", "toy", 0, 0, 8, 8)
    )
    assert (two.left, two.seconds_left, two.voxels_per_second) == (1, None, 0)


def test_blocks_add_up(tmp_path: Path) -> None:
    """Done, failed and left add up to all, and the failed ones say why and where it is logged."""
    out = toy_run.folder(tmp_path, bad=["a-1.1.1", "a-0.1.0"], shape=(20, 20, 15))
    run_steps(out, STEPS, quiet(workers=1, serial=True))
    one, two = status(Store.open(out), STEPS)
    assert (one.done, one.failed, one.left) == (6, 2, 0)
    assert (two.done, two.failed, two.left) == (0, 0, 1)
    assert [found.cell for found in one.failures] == [(1, 1, 1), (0, 1, 0)]
    assert one.failures[0].error == "ValueError: block a-1.1.1 is beyond help"
    assert "beyond help" in one.failures[0].log.read_text()
    toy_run.behave(out)
    run_steps(out, STEPS, quiet(workers=1, serial=True))
    assert [(s.done, s.failed, s.left, s.failures) for s in status(Store.open(out), STEPS)] == [
        (8, 0, 0, []),
        (1, 0, 0, []),
    ]


def test_speed_and_time_left_follow_the_records(tmp_path: Path) -> None:
    """Two blocks of 1,000 voxels in a second each: six take six seconds, or three by two."""
    out = toy_run.folder(tmp_path)
    store = Store.open(out)
    for cell in [(0, 0, 0), (1, 0, 1)]:
        block = store.grid.block(0, cell)
        store.write_record(STEPS[0], block, {}, {}, 1.0)
    found = status(Store.open(out), STEPS)[0]
    assert found.voxels_per_second == pytest.approx(1000, rel=0.05)
    assert found.seconds_left == pytest.approx(6, rel=0.05)
    for cell in [(0, 1, 0), (0, 1, 1)]:
        write_note(Store.open(out).files, STEPS[0], cell, attempt=1, log="logs/x.log")
    assert status(Store.open(out), STEPS)[0].seconds_left == pytest.approx(3, rel=0.05)


def test_a_block_that_is_computed_now_did_not_fail(tmp_path: Path) -> None:
    """A block whose process lives is left, one whose process died without a word has failed."""
    out = toy_run.folder(tmp_path)
    log = "logs/x.log"
    write_note(Store.open(out).files, STEPS[0], (0, 0, 0), attempt=1, log=log)
    assert (status(Store.open(out), STEPS)[0].failed, status(Store.open(out), STEPS)[0].left) == (
        0,
        8,
    )
    write_note(Store.open(out).files, STEPS[0], (0, 0, 1), attempt=1, log=log)
    path = out / note_name(STEPS[0], (0, 0, 1))
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {ended.pid}'))
    found = status(Store.open(out), STEPS)[0]
    assert (found.failed, found.left, found.running) == (1, 7, 1)
    assert "process died" in found.failures[0].error


def test_foreign_files_are_no_records(tmp_path: Path) -> None:
    """Files half written, of other cells or of nobody, count for nothing."""
    out = toy_run.folder(tmp_path)
    folder = out / "records" / "a"
    folder.mkdir(parents=True)
    for name in ("0.0.0.json", ".0.0.1.json.77.part", "9.9.9.json", "README", "1.0.json"):
        (folder / name).write_text("{")
    for content in ("5", "[]", "null", '{"identity": "abc"}'):
        (folder / "0.0.1.json").write_text(content)
        assert status(Store.open(out), STEPS)[0].done == 0


def test_progress_is_a_line_per_step_without_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a log file, a step is one line when it is finished; nothing goes to standard output."""
    out = toy_run.folder(tmp_path)
    run_steps(out, STEPS, Execution(workers=1, serial=True, progress=Progress()))
    printed, lines = capfd.readouterr()
    assert printed == ""
    assert [line.split(",")[0] for line in lines.splitlines()] == [
        "a: 8 blocks done",
        "b: 1 blocks done",
    ]


def test_progress_is_bars_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal every step has a bar with its blocks."""
    terminal = type("Terminal", (io.StringIO,), {"isatty": lambda self: True})
    monkeypatch.setattr(sys, "stdout", terminal())
    monkeypatch.setattr(sys, "stderr", screen := terminal())
    out = toy_run.folder(tmp_path)
    run_steps(out, STEPS, Execution(workers=1, serial=True, progress=Progress()))
    assert "8/8" in screen.getvalue()
    assert "1/1" in screen.getvalue()


def test_words_for_speed_and_time() -> None:
    """Numbers are short, and the time left follows from the speed."""
    assert speed(2_000_000, 6_000_000, 1) == "2.00 Mvoxel/s, 2 s left"
    assert speed(100, 100, 10) == "10 voxel/s"
    assert [span(90), span(7200), span(180_000)] == ["90 s", "2 h", "2 d"]
