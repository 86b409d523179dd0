"""What the books of a large run cost: which blocks are done, which are left, what they add up to.

    PYTHONPATH=tests:tests/laws python tests/benchmarks/books.py FOLDER

Makes two kinds of runs in FOLDER, which should lie in memory (`/dev/shm`), on records alone:

* one that is finished, of some 10^6 blocks of all steps, whose records are packed as the driver
  packs them, without files and with stand-ins of one byte. How long the driver takes to see that
  it is finished, and its memory; how long ``cadseg status`` takes, and the look for the largest
  segment;
* parts of a grid of 20 million blocks, of two steps that do nothing, in one process: what a block
  costs, whose bookkeeping must not grow with what is done.
"""

from __future__ import annotations

import functools
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import toy_run

from cadseg.pipeline import run
from cadseg.pipeline.execution.driver import run_steps
from cadseg.pipeline.execution.outcome import check
from cadseg.workers import manifest, packs
from cadseg.workers.names import SUPER, super_cell
from cadseg.workers.stages import STAGES, steps_of
from cadseg.workers.step import Step, StepKind
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from cadseg.blocks import Block, Zyx
    from cadseg.workers.writer import BlockWriter

BLOCKS = 55  # per axis: 10^6 blocks of all steps
LARGE = 272  # per axis: 20 million blocks
PARTS = (10, 16, 25)  # blocks per axis
VOXELS = 10  # per axis of a block
COUNTS = ("merges", "left", "largest", "largest_voxels")


def main() -> None:
    """All of it; each measurement in a process of its own."""
    if len(sys.argv) > 2:
        return {"finished": _finished, "status": _status, "largest": _largest}[sys.argv[2]]()
    for files in (False, True):
        out = _fresh("finished")
        blocks = _finish(out, files)
        for what in ("finished", "status", "largest"):
            words = [sys.executable, __file__, out, what]
            found = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            print(
                f"{blocks} blocks of all steps, files {files}: {what} {found.strip()}", flush=True
            )
    for part in PARTS:
        blocks, seconds = _simulated(part)
        print(f"{blocks} of {LARGE**3} blocks: {1e3 * seconds / blocks:.2f} ms each", flush=True)


def _fresh(name: str) -> Path:
    out = Path(sys.argv[1], name)
    shutil.rmtree(out, ignore_errors=True)
    return out


def _finish(out: Path, files: bool) -> int:
    """Make a run that is finished; how many blocks it has."""
    toy_run.folder(out, shape=(VOXELS * BLOCKS,) * 3, block=(VOXELS,) * 3, stages=(*STAGES, "toy"))
    store, blocks = Store.open(out), 0
    levels = range(store.config.segment.pyramid_levels + 1)
    pyramid = tuple((1, 1 << level, 1 << level) for level in levels)
    manifest.write(store.files, store.manifest.model_copy(update={"pyramid": pyramid}))
    store = Store.open(out)
    for step in steps_of(store):
        supers: dict[Zyx, list[Zyx]] = {}
        for cell in store.grid.cells(step.level):
            supers.setdefault(super_cell(cell), []).append(cell)
        for above, cells in supers.items():
            packs.write(store.files, step.name, above, "abc", _rows(store, step, cells, files))
            blocks += len(cells)
            if files:
                _stand_in(out, {name for some in store.names_of(step, cells) for name in some})
    return blocks


def _rows(store: Store, step: Step, cells: list[Zyx], files: bool) -> packs.Table:
    """Records of blocks, of files of one byte or of shards that are all 0."""
    random, size = np.random.default_rng(0), len(cells)
    rows = dict(zip("zyx", np.array(cells).T, strict=True))
    rows["voxels"] = np.full(size, (VOXELS << step.level) ** 3)
    if step.level:
        voxels = [store.grid.block(step.level, cell).write.size for cell in cells]
        rows["voxels"] = np.array(voxels)
    rows["micros"] = random.integers(10**6, 10**7, size)
    rows |= {f"{packs.COUNT}{name}": random.integers(0, 10**5, size) for name in COUNTS}
    for place in range(len(store.files_of(step, cells[0]))):
        rows[f"{packs.LENGTH}{place}"] = np.full(size, int(files))
        sums = random.integers(0, 2**32, size).astype(np.uint32)
        rows[f"{packs.CHECKSUM}{place}"] = sums
    return rows


def _stand_in(out: Path, names: set[str]) -> None:
    for folder in {name.rpartition("/")[0] for name in names}:
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        (out / name).write_bytes(b"1")


def _finished() -> None:
    store = Store.open(sys.argv[1])
    steps = steps_of(store)
    started = time.perf_counter()
    outcomes = run_steps(sys.argv[1], steps, toy_run.quiet(workers=2))
    seconds = time.perf_counter() - started
    check(outcomes, sys.argv[1])
    _say(seconds)


def _status() -> None:
    started = time.perf_counter()
    subprocess.run(
        [Path(sys.executable).with_name("cadseg"), "status", sys.argv[1]],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{seconds:.1f} s ({usage.ru_utime + usage.ru_stime:.1f} s of CPU)")


def _largest() -> None:
    store = Store.open(sys.argv[1])
    started = time.perf_counter()
    assert run._percolation(store) is None
    _say(time.perf_counter() - started)


def _say(seconds: float) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{seconds:.1f} s ({cpu:.1f} s of CPU in all), {usage.ru_maxrss / 1e3:.0f} MB")


def _simulated(part: int) -> tuple[int, float]:
    """Run a part of a large grid, in this process; its blocks, and the seconds that they took."""
    out = _fresh(f"part-{part}")
    first = VOXELS * SUPER * 8
    toy_run.folder(
        out,
        shape=(VOXELS * LARGE,) * 3,
        roi=[[first, first + VOXELS * part]] * 3,
        block=(VOXELS,) * 3,
    )
    steps = [_idle("a"), _idle("b", "a"), _idle("c", "b", level=1)]
    started = time.perf_counter()
    outcomes = run_steps(out, steps, toy_run.quiet(serial=True))
    seconds = time.perf_counter() - started
    check(outcomes, str(out))
    return sum(outcome.done for outcome in outcomes.values()), seconds


def _idle(name: str, *after: str, level: int = 0) -> Step:
    kind = StepKind(name=name, run=_nothing, cost=functools.partial(toy_run.toy_block.cost))
    return Step(kind, "toy", level=level, after=after)


def _nothing(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    return {"voxels": block.write.size}


if __name__ == "__main__":
    main()
