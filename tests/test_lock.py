"""Laws of the lock on a run's folder, with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from cadseg.errors import OutputError
from cadseg.pipeline.execution import lock as locks
from cadseg.pipeline.execution.lock import lock
from cadseg.storage.local_files import LocalFiles

if TYPE_CHECKING:
    from pathlib import Path

FIRST = "lock-1.json"

HOLD = """
import sys, time
from pathlib import Path
from cadseg.errors import OutputError
from cadseg.pipeline.execution.lock import lock
from cadseg.storage.local_files import LocalFiles
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
try:
    with lock(LocalFiles(sys.argv[1])):
        print("mine", flush=True)
        time.sleep(100)
except OutputError as error:
    print(error, flush=True)
"""


def hold(out: Path, go: Path) -> subprocess.Popen[str]:
    """Claim `out` in a process of its own, as soon as `go` exists."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out), str(go)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def said(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def end(*processes: subprocess.Popen[str]) -> None:
    """Kill processes, without a chance to clean up."""
    for process in processes:
        process.kill()
        process.communicate()


def test_a_lock_goes_with_the_run(tmp_path: Path) -> None:
    """While a run goes the folder is locked; afterwards nothing of the lock is left."""
    out = tmp_path / "new" / "out"
    for _ in range(2):
        with lock(LocalFiles(out)):
            assert [path.name for path in out.iterdir()] == [FIRST]
        assert list(out.iterdir()) == []
    with pytest.raises(ZeroDivisionError), lock(LocalFiles(out)):
        print(1 / 0)
    assert list(out.iterdir()) == []


def test_a_live_folder_is_refused(tmp_path: Path) -> None:
    """A second run is told who works in the folder, and the first one is not disturbed."""
    with lock(LocalFiles(tmp_path)):
        with pytest.raises(OutputError, match=rf"in use by pid {os.getpid()} on host "):
            lock(LocalFiles(tmp_path)).__enter__()
        assert (tmp_path / FIRST).exists()


def test_a_killed_run_leaves_its_folder_free(tmp_path: Path) -> None:
    """The lock of a process that was killed lapses at once, on the same host."""
    run = hold(tmp_path, tmp_path)
    assert [said(run), said(run)] == ["ready\n", "mine\n"]
    with pytest.raises(OutputError, match=f"pid {run.pid}"):
        lock(LocalFiles(tmp_path)).__enter__()
    run.kill()  # not waited for yet: a zombie holds no lock
    while psutil.Process(run.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    with lock(LocalFiles(tmp_path)):
        pass
    end(run)


def test_a_number_used_again_is_no_lock(tmp_path: Path) -> None:
    """A process that has the number of the dead one by chance does not keep the folder."""
    with lock(LocalFiles(tmp_path)):
        text = (tmp_path / FIRST).read_text()
    found = json.loads(text)
    (tmp_path / FIRST).write_text(json.dumps(found | {"born": found["born"] - 60}))
    with lock(LocalFiles(tmp_path)):
        pass
    (tmp_path / FIRST).write_text(text)
    with pytest.raises(OutputError):
        lock(LocalFiles(tmp_path)).__enter__()


@pytest.mark.parametrize("foreign", [{"host": "elsewhere"}, {"space": "pid:[1]"}])
def test_another_host_keeps_its_lock_while_it_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: dict[str, str]
) -> None:
    """The lock of a process that we cannot see lapses when we watched it and nobody counted."""
    monkeypatch.setattr(locks, "LAPSE", 1.0)
    with lock(LocalFiles(tmp_path)):
        found = json.loads((tmp_path / FIRST).read_text())
    foreigner = {**found, **foreign, "token": "theirs"}
    (tmp_path / FIRST).write_text(json.dumps(foreigner))
    (tmp_path / FIRST).touch()
    beat = threading.Timer(0.5, LocalFiles(tmp_path).renew, [FIRST, locks._content(foreigner, 1)])
    beat.start()
    with pytest.raises(OutputError, match="in use by"):
        lock(LocalFiles(tmp_path)).__enter__()
    beat.join()
    started = time.monotonic()
    with lock(LocalFiles(tmp_path)):
        assert json.loads((tmp_path / "lock-2.json").read_text())["pid"] == os.getpid()
    assert time.monotonic() - started > 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("clock", [0, 4e9])
def test_the_time_of_a_file_says_nothing(tmp_path: Path, clock: float) -> None:
    """A live lock is alive, and a dead one dead, also where a server's clock is wrong."""
    with lock(LocalFiles(tmp_path)):
        os.utime(tmp_path / FIRST, (clock, clock))
        with pytest.raises(OutputError, match="in use by"):
            lock(LocalFiles(tmp_path)).__enter__()
        found = json.loads((tmp_path / FIRST).read_text())
    (tmp_path / FIRST).write_text(json.dumps(found | {"born": 1.0}))
    os.utime(tmp_path / FIRST, (clock, clock))
    with lock(LocalFiles(tmp_path)):
        pass


@pytest.mark.parametrize("content", ["5", "[]", "", "{}", '{"pid": "one"}', "no pid", "[" * 9999])
def test_a_lock_that_nobody_can_read_lapses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """A damaged lock lapses when we watched it and nobody counted."""
    monkeypatch.setattr(locks, "LAPSE", 0.2)
    with lock(LocalFiles(tmp_path)):
        found = json.loads((tmp_path / FIRST).read_text())
    del found["pid"]
    (tmp_path / FIRST).write_text(json.dumps(found) if content == "no pid" else content)
    with lock(LocalFiles(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run counts in its lock again and again, and stays its holder."""
    monkeypatch.setattr(locks, "BEAT", 0.02)
    with lock(LocalFiles(tmp_path)):
        before = json.loads((tmp_path / FIRST).read_text())
        deadline = time.monotonic() + 5
        while (after := _held(tmp_path))["beat"] < "000000005" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert after["beat"] >= "000000005"
        assert {**after, "beat": before["beat"]} == before
    assert list(tmp_path.iterdir()) == []


def test_a_run_hears_that_it_lost_its_folder(tmp_path: Path) -> None:
    """A run whose lock another one has taken over is told so, and does not take it back."""
    with lock(LocalFiles(tmp_path)) as check:
        check()
        found = json.loads((tmp_path / FIRST).read_text())
        (tmp_path / FIRST).rename(tmp_path / "lock-2.json")
        with pytest.raises(OSError, match="another run has taken the folder over"):
            check()
        (tmp_path / FIRST).write_text(json.dumps(found | {"token": "theirs"}))
        with pytest.raises(OSError, match="another run has taken the folder over"):
            check()
    assert sorted(path.name for path in tmp_path.iterdir()) == [FIRST, "lock-2.json"]


def _held(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(ValueError):  # read while it was written
        return dict(json.loads((folder / FIRST).read_text()))
    return {"beat": ""}


@pytest.mark.parametrize("lapsed", [False, True])
def test_of_two_starters_one_wins(tmp_path: Path, lapsed: bool) -> None:
    """Runs that start at the same moment: exactly one works, also where it takes over a lock."""
    out, go = tmp_path / "out", tmp_path / "go"
    if lapsed:
        with lock(LocalFiles(out)):
            found = json.loads((out / FIRST).read_text())
        (out / FIRST).write_text(json.dumps(found | {"born": 1.0}))
    runs = [hold(out, go) for _ in range(4)]
    assert [said(run) for run in runs] == ["ready\n"] * 4
    go.touch()
    lines = [said(run) for run in runs]
    winner = runs[lines.index("mine\n")]
    assert sum(line == "mine\n" for line in lines) == 1
    assert sum(f"in use by pid {winner.pid} " in line for line in lines) == 3
    end(*runs)


def test_a_lapsed_lock_is_taken_over_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often eight starters find a lapsed lock at the same moment, one of them wins."""
    seen = locks._alive

    def look_around(holder: dict[str, Any]) -> bool | None:
        try:
            return seen(holder)
        finally:
            time.sleep(random.random() / 100)  # the others go on between a look and what follows

    monkeypatch.setattr(locks, "_alive", look_around)
    with lock(LocalFiles(tmp_path)):
        found = json.loads((tmp_path / FIRST).read_text())
    lapsed = json.dumps(found | {"born": 1.0})
    for _ in range(10):
        (tmp_path / FIRST).write_text(lapsed)
        line = threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool, ExitStack() as stack:
            results = [pool.submit(_start, tmp_path, line) for _ in range(8)]
            won = [result.result() for result in results if result.exception() is None]
            assert len(won) == 1
            stack.push(won[0])


def test_who_looked_too_early_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A starter that looked before another took a lock over is refused, and leaves nothing."""
    files, seen = LocalFiles(tmp_path), locks._locks
    with lock(files):
        (tmp_path / "lock-2.json").write_bytes((tmp_path / FIRST).read_bytes())
    looks: list[list[str]] = [[]]
    monkeypatch.setattr(locks, "_locks", lambda files: looks.pop() if looks else seen(files))
    with pytest.raises(OutputError, match=f"in use by pid {os.getpid()} "):
        lock(files).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["lock-2.json"]


def _start(out: Path, line: threading.Barrier) -> AbstractContextManager[None]:
    line.wait()
    mine = lock(LocalFiles(out))
    mine.__enter__()
    return mine
