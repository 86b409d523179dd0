"""The laws of a store of objects, for each one that there is."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cadseg.errors import OutputError
from cadseg.storage.files import STORES, Files, open_files, resolved
from cadseg.storage.local_files import LocalFiles, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

# by scheme: where a store that is empty lies, below a folder of the test
PLACES = {"": "{folder}/new/out"}

WRITER = """
import sys
from cadseg.storage.files import open_files
files, size = open_files(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
number = 0
while True:
    number += 1
    files.write(f"a/{number % 3}", bytes([number % 251]) * size)
"""

CREATOR = """
import sys, time
from cadseg.storage.files import open_files
files = open_files(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print("".join("10"[not files.create(f"a/{i}", sys.argv[2].encode())] for i in range(200)))
"""


@pytest.fixture(params=sorted(STORES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store lies that is empty, for every store."""
    return PLACES[request.param].format(folder=tmp_path)


@pytest.fixture
def files(place: str) -> Files:
    """An empty store."""
    return open_files(place)


def start(program: str, *words: object) -> subprocess.Popen[str]:
    """A process that has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_what_is_written_is_read(files: Files) -> None:
    """An object holds the bytes that were written last, whatever kind of bytes they were."""
    for data in (b"one", b"", b"three and more", memoryview(b"abcdef")[1:3]):
        files.write("a/b/c", data)
        assert files.read("a/b/c") == bytes(data)
        assert files.size("a/b/c") == len(data)


def test_where_nothing_is(files: Files) -> None:
    """An object that is not there is FileNotFoundError; a folder is empty, and can be removed."""
    assert list(files.list("")) == list(files.list("a/b")) == []
    files.remove("a/b")
    assert files.sizes("") == files.sizes("a/b") == {}
    for look in (files.read, files.size, lambda name: files.renew(name, b"")):
        with pytest.raises(FileNotFoundError):
            look("a/b")
    with pytest.raises(FileNotFoundError):
        next(files.read_ranges("a/b", [(0, 1)]))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=40),
    spans=st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 50)), max_size=5),
)
def test_a_range_is_a_slice(files: Files, data: bytes, spans: list[tuple[int, int]]) -> None:
    """A range is that slice of the object's bytes, counted from the end where it is negative."""
    files.write("a", data)
    found = list(files.read_ranges("a", spans))
    begins = [max(0, begin + len(data)) if begin < 0 else begin for begin, _ in spans]
    assert found == [data[b : b + n] for b, (_, n) in zip(begins, spans, strict=True)]


def test_a_folder_is_no_object(files: Files) -> None:
    """A folder cannot be read, and an object has nothing in it."""
    files.write("a/b", b"data")
    for name in ("a", "a/b/c"):
        with pytest.raises(FileNotFoundError):
            files.read(name)
    with pytest.raises(FileNotFoundError):
        list(files.read_ranges("a/b/c", [(0, 1)]))
    assert list(files.list("a/b")) == []


def test_a_list_is_what_lies_in_the_folder(files: Files) -> None:
    """Objects and folders directly in a folder are listed, each once, without their paths."""
    for name in ("a", "b/c", "b/d/e", "b/d/f", "bb/c", "b/.hidden"):
        files.write(name, b"x")
    assert sorted(files.list("")) == ["a", "b", "bb"]
    assert sorted(files.list("b")) == [".hidden", "c", "d"]
    assert sorted(files.list("b/d")) == ["e", "f"]


def test_remove_takes_an_object_or_a_tree(files: Files) -> None:
    """A name is removed with all below it, and nothing beside it."""
    for name in ("a", "b/c", "b/d/e", "bb/c"):
        files.write(name, b"x")
    files.remove("b")
    assert sorted(files.list("")) == ["a", "bb"]
    files.remove("a")
    files.remove("bb/c")
    assert list(files.list("bb")) == []
    files.write("b", b"an object where a folder was")
    assert files.read("b")[:2] == b"an"


def test_an_object_is_created_once(files: Files) -> None:
    """A second object of the same name is not created, and the first one stays as it is."""
    assert files.create("a/b", b"first")
    assert not files.create("a/b", b"second")
    assert files.read("a/b") == b"first"
    assert list(files.list("a")) == ["b"]
    files.remove("a/b")
    assert files.create("a/b", b"third")


def test_of_processes_that_create_one_does(place: str) -> None:
    """Processes that create the same objects at the same time: each object has one creator."""
    creators = [start(CREATOR, place, name) for name in range(4)]
    for creator in creators:
        assert creator.stdin is not None
        creator.stdin.write("go\n")
        creator.stdin.flush()
    made = [creator.communicate()[0].strip() for creator in creators]
    files = open_files(place)
    for number in range(200):
        mine = [str(who) for who, marks in enumerate(made) if marks[number] == "1"]
        assert [files.read(f"a/{number}").decode()] == mine


def test_a_killed_writer_leaves_whole_objects(place: str) -> None:
    """However often writers are killed, each object is one of those written, all of it."""
    files, size, seen = open_files(place), 3_000_001, set()
    for _ in range(8):
        writer = start(WRITER, place, size)
        time.sleep(random.uniform(0.02, 0.15))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        for name in files.list("a"):
            data = files.read(f"a/{name}")
            assert len(data) == size
            assert data == data[:1] * size
            seen.add(data[0])
        assert set(files.list("a")) <= {"0", "1", "2"}
    assert len(seen) > 2


def test_who_reads_sees_one_version(files: Files) -> None:
    """While threads write the same object, readers see one of the writes, never a mixture."""
    size, over = 20_000, threading.Event()
    files.write("a", bytes(size))

    def write(number: int) -> None:
        while not over.is_set():
            files.write("a", bytes([number]) * size)

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, number) for number in (1, 2, 3)]
        seen = [files.read("a") for _ in range(5000)]
        over.set()
        [writer.result() for writer in writers]
    assert all(len(data) == size and data == data[:1] * size for data in seen)
    assert list(files.list("")) == ["a"]


def test_sizes_are_of_objects(files: Files) -> None:
    """Objects directly in a folder are given with their lengths, folders not."""
    for name, data in {"a": b"", "b/c": b"xyz", "b/d/e": b"x", "b/f": b"xy"}.items():
        files.write(name, data)
    assert files.sizes("") == {"a": 0}
    assert files.sizes("b") == {"c": 3, "f": 2}
    assert files.sizes("a") == {}


def test_an_object_is_renewed_where_it_is(files: Files) -> None:
    """The bytes of an object that is there are replaced; a longer one leaves nothing behind."""
    files.write("a/b", b"first one")
    for data in (b"second", b"the third one", b""):
        files.renew("a/b", data)
        assert files.read("a/b") == data
    with pytest.raises(FileNotFoundError):
        files.renew("a/c", b"x")
    assert files.sizes("a") == {"b": 0}


# batches -------------------------------------------------------------------------------------


def test_a_batch_comes_at_its_end(files: Files) -> None:
    """Objects of a batch are seen when it ends, and what is to be removed goes then."""
    files.write("a/old", b"old")
    files.write("a/b/c", b"old")
    with files.batch() as batch:
        batch.write("a/old", b"new")
        with batch.writing("a/pieces") as sink:
            for piece in (b"one, ", memoryview(b"two, "), b"three"):
                sink.write(piece)
        batch.write("x/y", b"")
        batch.remove("a/b")
        batch.remove("nothing")
        assert files.read("a/old") == files.read("a/b/c") == b"old"
        assert files.sizes("a") == {"old": 3}
    assert files.sizes("a") == {"old": 3, "pieces": 15}
    assert files.read("a/pieces") == b"one, two, three"
    assert files.read("a/old") == b"new"
    assert files.sizes("x") == {"y": 0}
    assert list(files.list("a/b")) == []


def _failing_between(files: Files) -> None:
    with files.batch() as batch:
        batch.write("a/b", b"new")
        batch.remove("a/c")
        raise ZeroDivisionError


def _failing_within(files: Files) -> None:
    with files.batch() as batch:
        batch.write("a/b", b"new")
        with batch.writing("a/d") as sink:
            sink.write(b"half")
            raise ZeroDivisionError


@pytest.mark.parametrize("fail", [_failing_between, _failing_within])
def test_a_failed_batch_leaves_nothing(
    files: Files, fail: Callable[[Files], None], tmp_path: Path
) -> None:
    """Where a batch ends with an error, all is as it was."""
    files.write("a/b", b"old")
    files.write("a/c", b"old")
    with pytest.raises(ZeroDivisionError):
        fail(files)
    assert files.sizes("a") == {"b": 3, "c": 3}
    assert files.read("a/b") == b"old"
    assert not list(tmp_path.rglob("*.part"))


def test_local_paths_are_on_a_disk_of_this_machine(files: Files) -> None:
    """What must be a file has a path whose folder is there."""
    path = files.local("logs/x/y.log")
    path.write_text("line\n")
    assert files.local("logs/x/y.log").read_text() == "line\n"


def test_there_is_room(files: Files, place: str) -> None:
    """An empty store has room, and asking leaves nothing."""
    assert files.room() > 0
    assert not Path(place).exists()


def test_a_failed_write_leaves_nothing(files: Files) -> None:
    """A write that fails leaves the old bytes, and nothing else."""
    files.write("a", b"old")
    with pytest.raises(TypeError):
        files.write("a", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        files.create("b", 3)  # type: ignore[arg-type]
    assert files.read("a") == b"old"
    assert list(files.list("")) == ["a"]


def test_what_killed_writers_left_is_removed(files: Files, place: str) -> None:
    """Temporary files of any folder go, and nothing else."""
    for name in ("a", "b/c", "b/d/e", "logs/f"):
        files.write(name, b"x")
    for name in (".a.0123.part", "b/.c.99.part", "b/d/.e.1.part", "logs/.f.part"):
        Path(place, name).write_bytes(b"half")
    files.tidy()
    left = {path.relative_to(place).as_posix() for path in Path(place).rglob("*.*")}
    assert left == set()
    assert [files.read(name) for name in ("a", "b/c", "b/d/e", "logs/f")] == [b"x"] * 4


def test_a_check_leaves_nothing(files: Files) -> None:
    """A store that takes what is written says nothing, and is as before."""
    files.write("a", b"x")
    files.check()
    assert list(files.list("")) == ["a"]


# a folder that goes ---------------------------------------------------------------------------


def test_nothing_goes_to_another_folder(tmp_path: Path) -> None:
    """Where another folder has the path of a store, it stays empty, and a check says so."""
    out, moved = tmp_path / "out", tmp_path / "moved"
    files = LocalFiles(out)
    files.write("a/b", b"x")
    out.rename(moved)
    out.mkdir()
    files.write("a/c", b"y")
    assert files.read("a/b") == b"x"
    for look in (files.check, lambda: files.local("logs/log")):
        with pytest.raises(OSError, match="another one is in its place"):
            look()
    assert list(out.iterdir()) == []
    assert (moved / "a/c").read_bytes() == b"y"


def test_a_folder_that_was_removed_is_not_made_again(tmp_path: Path) -> None:
    """What a store writes after its folder has gone is an error, and makes no folder."""
    out = tmp_path / "out"
    files = LocalFiles(out)
    files.write("a/b", b"x")
    shutil.rmtree(out)
    for name in ("a/c", "d"):
        with pytest.raises(FileNotFoundError):
            files.write(name, b"y")
    with pytest.raises(OSError, match="the folder has gone"):
        files.check()
    assert not out.exists()


# addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["s3://bucket/out", "gs://b/o", "file:///tmp/o", Path("s3://b")])
def test_an_unknown_address_is_refused(where: str | Path, tmp_path: Path) -> None:
    """An address that no store opens is refused in a sentence that says what is accepted."""
    with pytest.raises(OutputError, match=r"cannot write to \w+:// .*; accepted is a folder"):
        open_files(where)


def test_an_address_is_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path becomes one from the root, a URL stays; a store does not follow a change of folder."""
    monkeypatch.chdir(tmp_path)
    files = open_files("out")
    files.write("a", b"x")
    assert files.url == "out"
    assert resolved("out") == str((tmp_path / "out").resolve())
    assert resolved("s3://b/o") == "s3://b/o"
    monkeypatch.chdir("/")
    assert files.read("a") == open_files(tmp_path / "out").read("a") == b"x"


def test_write_whole_makes_no_folder(tmp_path: Path) -> None:
    """A single file is written whole where its folder is, and refused where there is none."""
    write_whole(tmp_path / "a.csv", b"1,2\n")
    assert (tmp_path / "a.csv").read_bytes() == b"1,2\n"
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "a.csv", b"1,2\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
