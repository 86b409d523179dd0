"""Scores of a run at many thresholds, for the price of one look at its voxels.

How many voxels each pair of fragment and true neuron has is counted once, block by block. After
that a threshold only brings fragments together: from the highest to the lowest, the merges between
one threshold and the next join rows of these counts. The scores are those of `relabel` followed by
`evaluate`, threshold by threshold; the run stays as it is.

The merges are held in memory, some 90 bytes each, beside the counts.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from cadseg import merges, scores, tables
from cadseg.agglomerate import Merges
from cadseg.errors import OutputError
from cadseg.evaluate import Scores, compared, renamed
from cadseg.evaluate import scores as scores_of
from cadseg.fragments import lookup
from cadseg.pipeline import plot as picture
from cadseg.pipeline.prepare import recut
from cadseg.pipeline.run import with_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cadseg.evaluate import Counts
    from cadseg.fragments import Ids
    from cadseg.workers.store import Store

SCORES = ("threshold", "voi_split", "voi_merge", "voi_sum", "arand")
MERGES = tuple(field.name for field in fields(Merges))


@dataclass(frozen=True)
class Point:
    """A threshold, and the scores of the segmentation that it gives."""

    threshold: float
    scores: Scores

    @property
    def row(self) -> tuple[float, ...]:
        """What `SCORES` name."""
        values = {"threshold": self.threshold, "voi_sum": self.scores.voi_sum}
        values |= asdict(self.scores)
        return tuple(values[name] for name in SCORES)


def sweep(
    out: Path,
    thresholds: Sequence[float],
    truth: str,
    *,
    min_voxels: int | None = None,
    plot: Path | None = None,
    table: Path | None = None,
) -> list[Point]:
    """Scores at all `thresholds`, lowest first, of the run in the folder `out`.

    Args:
        out: folder of a run whose merge tree is finished.
        thresholds: affinities, 0..1.
        truth: as in `evaluate`.
        min_voxels: as in `relabel`.
        plot: picture to make of the scores.
        table: CSV file to write them to.

    Raises:
        CadsegError: no such run, a threshold that `relabel` would refuse, a truth that `evaluate`
            would, or a file that cannot be written; nothing is then.
    """
    store = with_tree(out)
    falling = sorted(set(thresholds), reverse=True)
    for threshold in falling:
        store = recut(store, threshold, min_voxels).store
    _check(plot, table)
    counts = compared(str(out / "fragments"), truth)
    cuts = _cuts(store, counts, falling, store.config.segment.min_voxels)
    found = map(scores_of, cuts)
    points = [Point(*pair) for pair in zip(falling, found, strict=True)][::-1]
    if table is not None:
        lines = [",".join(map(str, row)) for row in (SCORES, *(p.row for p in points))]
        tables.replace(table, "".join(f"{line}\n" for line in lines).encode())
    if plot is not None:
        rows = np.array([point.row for point in points])
        tables.replace(plot, picture.drawn(rows, SCORES, points.index(best(points))))
    return points


def best(points: Sequence[Point]) -> Point:
    """The point with the lowest sum of VOI; of equal ones the highest threshold."""
    return min(points, key=lambda point: (point.scores.voi_sum, -point.threshold))


def _check(plot: Path | None, table: Path | None) -> None:
    for path in (plot, table):
        if path is not None and not os.access(path.absolute().parent, os.W_OK):
            raise OutputError(
                f"output {path}: {path.absolute().parent} is no folder that can be written to; "
                "choose another"
            )
    if plot is not None:
        picture.check(plot)


def _cuts(
    store: Store, counts: Counts, falling: Sequence[float], min_voxels: int
) -> Iterator[Counts]:
    """The counts at each threshold."""
    dtype = store.affinity_dtype
    score, u, v = _rising(store, counts, min_voxels)
    end = score.size
    for threshold in falling:
        begin = int(np.searchsorted(score, np.uint64(scores.at_least(threshold, dtype))))
        joins = merges.components(u[begin:end], v[begin:end])
        u, v = lookup(u[:begin], *joins), lookup(v[:begin], *joins)
        counts = renamed(counts, *joins)
        yield counts
        end = begin


def _rising(store: Store, counts: Counts, min_voxels: int) -> tuple[Ids, Ids, Ids]:
    """Scores of all merges, lowest first, and their contacts; small sides merge above all."""
    parts = []
    for level in range(store.grid.top + 1):  # what a merge builds on stands before it
        parts += [store.read_table("merges", level, cell) for cell in store.grid.cells(level)]
    tree = Merges(**{name: np.concatenate([part.pop(name) for part in parts]) for name in MERGES})
    score = scores.scores(tree.sum, tree.count, scores.half_bits(store.affinity_dtype))
    if min_voxels:
        fragments, begin = np.unique(counts.segment, return_index=True)
        voxels = np.add.reduceat(counts.voxels, begin)
        smaller = merges.smaller_sides(tree, fragments, voxels)
        score[smaller < min_voxels] = np.iinfo(np.uint64).max
    order = np.argsort(score)
    return score[order], tree.key_u[order], tree.key_v[order]
