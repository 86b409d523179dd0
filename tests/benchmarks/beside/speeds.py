"""How fast everyone is, step by step, and what the size of the volume changes about it.

Seconds of blocks are those of the blocks' records: computing, reading and writing, and what the
first block of a process waits for its imports.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from beside import ours, peers, volumes, waterz_peer
from beside.ours import Run, megavoxels

if TYPE_CHECKING:
    from beside.bench import Bench
    from beside.report import Table
    from cadseg.blocks import Zyx

VOLARA_BLOCK: Zyx = (20, 256, 256)


def warm(bench: Bench) -> None:
    """Have everything compiled that is compiled when it is first used."""
    affinities = volumes.affinities(bench.scratch, (20, 256, 256))
    for engine in ("exact", "waterz"):
        out, change = bench.folder / f"warm-{engine}", f"agglomerate.engine={engine}"
        ours.segment(affinities, out, change, workers=1, block=(20, 128, 128))


def waterz(bench: Bench) -> None:
    """Both scorings."""
    for scoring in waterz_peer.SCORINGS:
        cost = peers.waterz(bench.affinities, bench.folder / f"waterz-{scoring}", scoring)
        bench.table.add_speed(f"waterz, {scoring}", megavoxels(bench.crop), cost, 1)


def volara(bench: Bench) -> None:
    """Two workers."""
    out = bench.folder / "volara"
    cost = peers.volara(bench.scratch, bench.affinities, out, VOLARA_BLOCK)
    bench.table.add_speed("volara, two workers", megavoxels(bench.crop), cost, 2)
    bench.table.add("volara, two workers: files", str(ours.files(out)))


def cadseg(bench: Bench) -> None:
    """Engine exact with one worker and two, step by step; engine waterz."""
    table, size = bench.table, megavoxels(bench.crop)
    for who, workers, sets in (
        ("ours, one worker", 1, ()),
        ("ours, two workers", 2, ()),
        ("ours, engine waterz, two workers", 2, ("agglomerate.engine=waterz",)),
    ):
        out = bench.folder / who.replace(", ", "-").replace(" ", "-")
        run = ours.segment(bench.affinities, out, *sets, workers=workers, block=bench.block)
        table.add_speed(who, size, run.cost, workers)
        if workers == 1:
            for step, seconds in sorted(run.seconds.items()):
                table.add(f"{who}: {step}, Mvoxel/s", f"{size / seconds:.1f}")
            table.add(f"{who}: all blocks, Mvoxel/s", f"{size / sum(run.seconds.values()):.2f}")
            table.add(f"{who}: files", str(run.files))


def scaling(bench: Bench) -> None:
    """Default blocks and one worker, volume by volume; the largest with two, too."""
    table, costs = bench.table, {}
    for shape in bench.sizes:
        name, size = "x".join(map(str, shape)), megavoxels(shape)
        affinities = volumes.affinities(bench.scratch, shape)
        run = ours.segment(affinities, bench.folder / name, workers=1)
        costs[name] = sum(run.seconds.values()) / size
        _describe(table, f"{name} = {size:.0f} Mvoxel", run, size)
        shutil.rmtree(run.out)
    fast = ours.segment(affinities, bench.folder / name, workers=2)
    table.add_speed(f"{name}, two workers", size, fast.cost, 2)
    table.add(f"{name}: two workers to one", f"{run.cost.wall / fast.cost.wall:.2f}")
    shutil.rmtree(fast.out)
    mean = sum(costs.values()) / len(costs)
    off = max(abs(cost / mean - 1) for cost in costs.values())
    table.add("seconds of blocks per Mvoxel: largest deviation from the mean", f"{off:.1%}")


def _describe(table: Table, name: str, run: Run, size: float) -> None:
    table.add_speed(f"{name}, one worker", size, run.cost, 1)
    table.add(f"{name}: seconds of blocks per Mvoxel", f"{sum(run.seconds.values()) / size:.3f}")
    merges, seconds = run.top
    table.add(f"{name}: top level's share of merges, of time", f"{merges:.1%}, {seconds:.1%}")
    table.add(f"{name}: files", str(run.files))
    peaks = ", ".join(f"{step} {peak / 1e6:.0f}" for step, peak in sorted(run.peaks.items()))
    table.add(f"{name}: peak of a worker, MB", peaks)
