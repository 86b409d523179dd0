"""Runs of ``cadseg segment`` by its command line, and what they leave to be counted."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cadseg.pipeline.execution.records import tally
from cadseg.pipeline.execution.status import status
from cadseg.workers.stages import steps_of
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cadseg.blocks import Zyx

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "NUMBA", "OPENBLAS", "MKL")}
SAMPLED_EVERY = 0.1  # seconds


@dataclass(frozen=True)
class Cost:
    """Of a whole command: seconds on the clock, and seconds of cores, of all its processes."""

    wall: float
    cores: float


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        out: its folder.
        cost: of the whole command.
        peaks: largest resident set of a worker's process per kind of step, in bytes.
    """

    out: Path
    cost: Cost
    peaks: dict[str, int]

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of the blocks per kind of step, reading and writing included."""
        return _by_kind(self.by_step)

    @property
    def by_step(self) -> dict[str, float]:
        """Seconds of the blocks per step."""
        store = Store.open(self.out)
        return {step.name: tally(store, step).seconds for step in steps_of(store)}

    @property
    def files(self) -> int:
        """Files in the run's folder."""
        return files(self.out)

    @property
    def top(self) -> tuple[float, float]:
        """Shares of the top level of agglomeration: of all merges, and of all blocks' seconds."""
        store = Store.open(self.out)
        levels = status(store, [step for step in steps_of(store) if step.stage == "agglomerate"])
        merges = [level.counts["merges"] for level in levels]
        seconds = self.by_step
        top = seconds[f"agglomerate-{len(levels) - 1}"]
        return merges[-1] / sum(merges), top / sum(seconds.values())


def segment(affinities: Path, out: Path, *sets: str, workers: int, block: Zyx | None = None) -> Run:
    """Segment with the given number of workers; `sets` are key=value of the config."""
    program = Path(sys.executable).with_name("cadseg")
    words = [program, "segment", affinities, "--out", out, "--config", "ssem"]
    words += ["--workers", str(workers)]
    for change in [*sets, *([] if block is None else [f"block_shape={list(block)}"])]:
        words += ["--set", change]
    peaks: dict[str, int] = {}
    cost = timed(words, lambda: _sample(out / "logs", peaks))
    return Run(out, cost, peaks)


def timed(words: Sequence[str | Path], meanwhile: Callable[[], None] = lambda: None) -> Cost:
    """What a command costs with one thread per process; `meanwhile` is called now and then.

    A command that fails ends the benchmark with what it said.
    """
    started, before = time.monotonic(), _core_seconds()
    with subprocess.Popen(
        words,
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        said = ""
        while process.poll() is None:
            meanwhile()
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, said = process.communicate(timeout=SAMPLED_EVERY)
    if process.returncode:
        sys.exit(f"{words} failed:\n{said}")
    return Cost(time.monotonic() - started, _core_seconds() - before)


def files(folder: Path) -> int:
    """Files in a folder, however deep."""
    return sum(path.is_file() for path in folder.rglob("*"))


def megavoxels(shape: Zyx) -> float:
    """Millions of voxels."""
    return math.prod(shape) / 1e6


def _core_seconds() -> float:
    """Of all processes that this one and its children have waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sample(logs: Path, peaks: dict[str, int]) -> None:
    """Note the peaks of the workers that live; a log is named by its step and process."""
    for log in logs.glob("*-*.log"):
        step, _, pid = log.stem.rpartition("-")
        kind = step.partition("-")[0]
        with contextlib.suppress(OSError):
            for line in Path("/proc", pid, "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peaks[kind] = max(peaks.get(kind, 0), 1024 * int(line.split()[1]))


def _by_kind(by_step: dict[str, float]) -> dict[str, float]:
    """Levels of one kind of step, together."""
    total: Counter[str] = Counter()
    for step, seconds in by_step.items():
        total[step.partition("-")[0]] += seconds
    return dict(total)
