"""Law 3: stopping changes nothing.

Whatever process is killed, at whatever moment and however often, and where the power is cut: the
same command, given again, ends with the bytes of a run that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import disks
import psutil
import pytest
import real_run as real

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

Command = tuple[object, ...]

KILLS = 12
CUTS = 4  # for many more: power_cuts(a folder, 40, seed=1)
LIMIT = 300.0  # seconds in which something must move


class Victims:
    """The processes of one run, and ways to kill them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Of the run whose command is `process`."""
        self.process = process

    def children(self, *, below: bool = True) -> list[psutil.Process]:
        """The server, and those `below` it, which it has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=below)
        return []

    def worker(self, chance: random.Random) -> None:
        """Kill one worker."""
        server = self.children(below=False)
        workers = [one for one in self.children() if one not in server]
        if workers:
            end(chance.choice(workers))

    def server(self, chance: random.Random) -> None:
        """Kill the process that hands out blocks."""
        for one in self.children(below=False):
            end(one)

    def command(self, chance: random.Random) -> None:
        """Kill the command itself, and nothing else."""
        self.process.kill()

    def everyone(self, chance: random.Random) -> None:
        """Kill all processes, in any order."""
        everyone = [psutil.Process(self.process.pid), *self.children()]
        for one in chance.sample(everyone, len(everyone)):
            end(one)


def end(process: psutil.Process) -> None:
    """Kill a process, if it is still there."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def finished(process: subprocess.Popen[str], out: Path, records: int) -> bool:
    """Wait for so many records; whether the run ended before it had them."""
    moved, known = time.monotonic(), 0
    while (now := real.records(out)) < records:
        if process.poll() is not None:
            return True
        if now != known:
            moved, known = time.monotonic(), now
        assert time.monotonic() - moved < LIMIT, f"nothing moves after {now} records"
        time.sleep(0.005)
    return False


def disturbed(command: Command, out: Path, total: int, seed: int) -> dict[str, int]:
    """Run `command` to its end, with kills spread over all its blocks; how often who was killed.

    Raises:
        AssertionError: an undisturbed run of it fails.
    """
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(total), KILLS))
    # the first and every third kill end the run; workers die while it goes on
    ways = ["everyone", "worker", "worker", "command", "worker", "server"]
    killed = dict.fromkeys(ways, 0)
    process = real.start(*command)
    for number, moment in enumerate(moments):
        way = ways[number % len(ways)]
        while finished(process, out, moment):
            process.communicate()
            process = real.start(*command)
        time.sleep(chance.random() * 0.2)
        if process.poll() is None:
            kill: Callable[[random.Random], None] = getattr(Victims(process), way)
            kill(chance)
            killed[way] += 1
        if way != "worker":
            process.communicate(timeout=LIMIT)
            process = real.start(*command)
    out_text, err_text = process.communicate(timeout=2 * LIMIT)
    for _ in range(2):  # killed workers may have used up the attempts of a block
        if process.returncode == 1:
            process = real.start(*command)
            out_text, err_text = process.communicate(timeout=2 * LIMIT)
    assert process.returncode == 0, err_text
    assert out_text.strip() == str(out / "segmentation" / "0")
    return killed


def the_law_holds(command: Command, folder: Path, seed: int) -> None:
    """A disturbed run ends as an undisturbed one, which runs in one process."""
    out, calm = folder / "disturbed.zarr", folder / "calm.zarr"
    assert real.cadseg(*command, "--out", calm, "--serial").code == 0
    total = real.records(calm)
    killed = disturbed((*command, "--out", out, "--workers=2"), out, total, seed)
    assert sum(killed.values()) >= 10, killed
    assert real.differing(out, calm) == []
    assert list(out.glob("lock*")) == []


@pytest.mark.slow
def test_killed_from_affinities(tmp_path: Path) -> None:
    """From affinities, with blocks on three levels, and with every kind of process killed."""
    affs = real.volume(tmp_path / "affs.zarr", real.affinities((6, 42, 48)))
    command = ("segment", affs, "--set=block_shape=[2, 14, 16]", *real.SMALL)
    the_law_holds(command, tmp_path, seed=0)


@pytest.mark.slow
def test_killed_from_raw(tmp_path: Path, fib25_raw: np.ndarray[Any, Any]) -> None:
    """From raw to segments, with the network."""
    real.student(tmp_path / "w.safetensors", fib25_raw)
    raw = real.volume(tmp_path / "raw.zarr", fib25_raw[:4, :40, :40])
    sets = (f"--weights={tmp_path / 'w.safetensors'}", "--set=block_shape=[2, 20, 40]")
    the_law_holds(("predict", raw, "--config=ssem", *sets, *real.SMALL), tmp_path, seed=1)


def power_cuts(folder: Path, cuts: int, seed: int) -> None:
    """Cut the power of a run so often, at moments spread over it, and see how it ends."""
    affs = real.volume(folder / "affs.zarr", real.affinities((6, 42, 48)))
    command = ("segment", affs, "--set=block_shape=[2, 14, 16]", *real.SMALL)
    calm, place, chance = folder / "calm.zarr", folder / "disk", random.Random(seed)
    assert real.cadseg(*command, "--out", calm, "--serial").code == 0
    command = (*command, "--out", place / "o.zarr")
    moments = chance.choices(range(real.records(calm)), k=cuts - cuts // 4)
    for moment in [0] * (cuts // 4) + sorted(moments):
        with disks.ext4(folder / "image", place):
            process = real.start(*command, "--workers=2")
            finished(process, place / "o.zarr", moment)
            time.sleep(chance.random() * (0.3 if moment else 5))
            assert process.poll() in (None, 0), process.communicate()
            disks.cut_power(place)
            if process.poll() is None:
                Victims(process).everyone(chance)
            process.communicate()
    with disks.ext4(folder / "image", place):
        said = real.cadseg(*command, "--serial")
        assert said.code == 0, said.err
        assert real.differing(place / "o.zarr", calm) == []


@pytest.mark.slow
def test_the_power_is_cut(tmp_path: Path) -> None:
    """Nothing is lost that a record speaks of, when all that was not on the disk is lost."""
    power_cuts(tmp_path, CUTS, seed=2)
