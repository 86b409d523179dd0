"""The command line: quick, documented, the same as the library, and stopped without harm."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import psutil
import pytest
import real_run as real

from cadseg.pipeline import cli, run
from cadseg.pipeline.execution.progress import Progress

HEAVY = (
    "daisy",
    "fsspec",
    "matplotlib",
    "numba",
    "numpy",
    "pyarrow",
    "pydantic",
    "scipy",
    "torch",
    "zarr",
)
WATCHED = f"""
import resource, sys
from cadseg.pipeline import cli
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, *sorted({set(HEAVY)} & set(sys.modules)), file=sys.stderr)
"""


def commands() -> dict[str, click.Command]:
    """All commands by their words."""
    found = {}
    context = click.Context(cli.cadseg)
    for name in cli.cadseg.list_commands(context):
        command = cli.cadseg.get_command(context, name)
        assert command is not None
        inner = command.commands.items() if isinstance(command, click.Group) else ()
        found |= {f"{name} {word}": other for word, other in inner} or {name: command}
    return found


@pytest.mark.parametrize("words", [(), *(tuple(name.split()) for name in cli.COMMANDS)])
def test_help_is_quick(words: tuple[str, ...]) -> None:
    """Help needs none of the large libraries, and so takes next to no time."""
    command = [sys.executable, "-c", WATCHED, *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"Usage: {' '.join(['cadseg', *words])} ")
    seconds, *modules = done.stderr.split()
    assert modules == []
    assert float(seconds) < 1  # 0.1 on a free core


def test_every_option_is_explained() -> None:
    """Every command says what it does, what its arguments are, and what each option does."""
    unexplained = []
    for name, command in commands().items():
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                shown = parameter.make_metavar(click.Context(command)).strip("[]")
                explained = shown in (command.help or "") or shown == "CONFIG"
            else:
                assert isinstance(parameter, click.Option)
                explained = bool(parameter.help)
            if not explained:
                unexplained.append(f"{name} {parameter.name}")
    assert unexplained == []


def test_help_lists_all_commands() -> None:
    """`cadseg` alone shows what there is, as `--help` does."""
    shown = real.cadseg("--help")
    assert shown.code == 0
    listed = [line.split()[0] for line in shown.out.split("Commands:")[1].splitlines() if line]
    assert listed == list(cli.COMMANDS)
    assert real.cadseg().err.split() == shown.out.split()
    assert re.fullmatch(r"cadseg, version \S+\n", real.cadseg("--version").out)


def test_a_notebook_can_do_the_same(affs: Path, tmp_path: Path) -> None:
    """The command prints where the result is; the library's functions give the same bytes."""
    sets = [word.removeprefix("--set=") for word in real.SMALL]
    execution = run.Execution(serial=True, progress=Progress(quiet=True))
    out, other = tmp_path / "o.zarr", tmp_path / "other.zarr"
    box = ("--roi=1:6,3:40,0:48", "--voxel-size=30,5,5", "--threshold=0.6", "--config=ssem")
    said = real.cadseg("segment", affs, "--out", out, "--serial", *real.SMALL, *box)
    assert said.out == f"{out / 'segmentation' / '0'}\n"
    roi, size = "volume.roi=[[1, 6], [3, 40], [0, 48]]", "volume.voxel_size=[30, 5, 5]"
    changes = [*sets, roi, size, "segment.threshold=0.6"]
    report = run.segment(str(affs), execution, out=other, config="ssem", overrides=changes)
    assert report.segmentation == str(other / "segmentation" / "0")
    assert real.differing(out, other) == []
    said = real.cadseg("relabel", out, "--threshold=0.7", "--serial")
    assert said.out == f"{out / 'segmentation' / '0'}\n"
    assert real.differing(out, other)
    run.relabel(other, 0.7, execution)
    assert real.differing(out, other) == []


def test_out_is_beside_the_volume(affs: Path) -> None:
    """Without --out, the result lies next to the volume, and its path is printed."""
    said = real.cadseg("segment", affs, "--serial", "--until=fragments", *real.SMALL)
    assert said.out == f"{affs.with_name('affs.cadseg.zarr')}\n"
    rows = [line.split() for line in real.cadseg("status", said.out.strip()).out.splitlines()]
    done = {row[0]: row[1:4] for row in rows[1:]}
    assert done["fragments"] == ["1", "0", "0"]
    assert done["segment"] == ["0", "0", "1"]


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The process and all that it has started."""
    found = psutil.Process(process.pid)
    return [found, *found.children(recursive=True)]


def alive(process: psutil.Process) -> bool:
    """Whether a process still does anything; in a container nobody may bury the dead."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait(process: subprocess.Popen[str], out: Path, records: int) -> None:
    """Wait until the run in `out` has so many records."""
    while real.records(out) < records:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped(number: signal.Signals, affs: Path, tmp_path: Path) -> None:
    """Ctrl-C ends all processes soon; the command that is then shown finishes the run."""
    out = tmp_path / "o.zarr"
    words = ["segment", affs, "--out", out, "--set=block_shape=[3, 42, 48]", *real.SMALL]
    process = real.start(*words, "--workers=2")
    wait(process, out, 1)
    everyone = family(process)
    assert len(everyone) > 2
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert [one for one in everyone if alive(one)] == []
    last = err.splitlines()[-1]
    assert last.startswith("Stopped; what is finished is kept. To go on: cadseg segment ")
    again = shlex.split(last.partition("To go on: cadseg ")[2])
    done = real.times(out)
    assert 0 < len(done) < 12
    assert real.cadseg(*again, "--serial").code == 0
    assert {name: real.times(out)[name] for name in done} == done
    other = tmp_path / "other.zarr"
    assert real.cadseg("segment", affs, "--out", other, *words[4:], "--serial").code == 0
    assert real.differing(out, other) == []


def hears(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether a process has a handler for the signal."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", text)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_stopped_before_it_began(affs: Path, tmp_path: Path) -> None:
    """A signal while the command still starts ends it in the same way."""
    process = real.start("segment", affs, "--out", tmp_path / "o.zarr", "--serial")
    while not hears(process, signal.SIGTERM):
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("Stopped; ")


def test_a_second_run_is_refused(affs: Path, tmp_path: Path) -> None:
    """Who works in a folder is named; the first run does not notice the second."""
    out = tmp_path / "o.zarr"
    words = ("segment", affs, "--out", out, "--set=block_shape=[3, 21, 24]", *real.SMALL)
    process = real.start(*words, "--serial")
    wait(process, out, 1)
    said = real.cadseg(*words, "--serial")
    assert said.code == 2
    assert f"in use by pid {process.pid} on host " in said.err
    assert said.err.count("\n") == 1
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert real.cadseg(*words, "--serial", "--until=fragments").code == 0
