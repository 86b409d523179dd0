"""How good everyone's segmentations are, and whether they depend on the block shape."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import h5py

from beside import ours, peers, volumes, waterz_peer
from cadseg.blocks import Roi, zyx
from cadseg.evaluation.metrics import contingency, scores
from cadseg.pipeline.execution.progress import Progress
from cadseg.pipeline.run import Execution, relabel
from cadseg.storage import volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from beside.bench import Bench
    from beside.report import Table
    from beside.volumes import Array

THRESHOLDS = [n / 100 for n in range(20, 81, 5)]


def quality(bench: Bench) -> None:
    """Both scorings, ours and waterz's, each on its own fragments."""
    with h5py.File(volumes.SNEMI3D, "r") as file:
        truth = file["labels"][Roi((0, 0, 0), bench.crop).slices()]
    affinities = waterz_peer.read(str(bench.affinities))
    fragments = waterz_peer.fragments(affinities)
    for scoring in waterz_peer.SCORINGS:
        for who, sweep in (
            ("ours", _cuts(bench, scoring)),
            ("waterz", waterz_peer.segmentations(affinities, fragments, THRESHOLDS, scoring)),
        ):
            _picked(bench.table, f"{who}, {scoring}", sweep, truth)


def _cuts(bench: Bench, scoring: str) -> Iterator[tuple[float, Array]]:
    """Our segmentations by threshold."""
    sets = (f"agglomerate.scoring={scoring}", "segment.pyramid_levels=0")
    out = bench.folder / f"quality-{scoring}"
    ours.segment(bench.affinities, out, *sets, workers=2, block=bench.block)
    for threshold in THRESHOLDS:
        relabel(out, threshold, Execution(serial=True, progress=Progress(quiet=True)))
        yield threshold, _segmentation(out / "segmentation" / "0")


def _picked(table: Table, who: str, sweep: Iterable[tuple[float, Array]], truth: Array) -> None:
    """VOI on the upper half of the sections, at the threshold that is best on the lower half."""
    half = len(truth) // 2
    voi = {
        threshold: [
            scores(contingency(found[part], truth[part])).voi_sum
            for part in (slice(half), slice(half, None))
        ]
        for threshold, found in sweep
    }
    best = min(voi, key=lambda threshold: voi[threshold][0])
    reached = min(scored for _, scored in voi.values())
    table.add(
        f"{who}: VOI of sections {half}-{len(truth) - 1} at T = {best:.2f} (at any T)",
        f"{voi[best][1]:.3f} ({reached:.3f})",
    )


def shapes(bench: Bench) -> None:
    """One volume in one block, in four, and in sixteen."""
    z, y, x = bench.crop
    shape = zyx((min(z, 20), min(y, 512), min(x, 512)))
    z, y, x = shape
    blocks = [shape, (z, y // 2, x // 2), (z // 2, y // 2, x // 4)]
    affinities = volumes.affinities(bench.scratch, shape)
    for who, engine in (("ours", "exact"), ("ours, engine waterz", "waterz")):
        found = []
        for block in blocks:
            out = bench.folder / f"shapes-{engine}-{block}"
            ours.segment(affinities, out, f"agglomerate.engine={engine}", workers=1, block=block)
            found.append(_segmentation(out / "segmentation" / "0"))
        _apart(bench.table, who, found)
    found = []
    for block in blocks:
        out = bench.folder / f"shapes-volara-{block}"
        peers.volara(bench.scratch, affinities, out, block)
        found.append(_segmentation(out / "segments"))
    _apart(bench.table, "volara", found)


def _apart(table: Table, who: str, found: list[Array]) -> None:
    pairs = itertools.combinations(found, 2)
    apart = max(scores(contingency(one, other)).voi_sum for one, other in pairs)
    table.add(f"{who}: largest VOI between three block shapes", f"{apart:.3f}")


def _segmentation(path: Path) -> Array:
    array = volume.open_volume(str(path))
    return array.read(Roi((0, 0, 0), array.extent))
