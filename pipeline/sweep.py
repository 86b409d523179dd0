"""Scores of a run at many thresholds, for the price of one look at its voxels.

How many voxels each pair of fragment and true neuron has is counted once, block by block. After
that a threshold only brings fragments together: from the highest to the lowest, the merges between
one threshold and the next join rows of these counts. The scores are those of `relabel` followed by
`evaluate`, threshold by threshold; the run stays as it is.

The merges are held in memory, 40 bytes each, beside the counts.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg import scores, tables
from cadseg.agglomerate import Merges
from cadseg.errors import OutputError
from cadseg.evaluate import Scores, compared, renamed
from cadseg.evaluate import scores as scores_of
from cadseg.merges import cut
from cadseg.pipeline import plot as picture
from cadseg.pipeline.prepare import recut
from cadseg.pipeline.run import with_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cadseg.evaluate import Counts
    from cadseg.workers.store import Store

COLUMNS = ("threshold", "voi_split", "voi_merge", "voi_sum", "arand")


@dataclass(frozen=True)
class Point:
    """A threshold, and the scores of the segmentation that it gives."""

    threshold: float
    scores: Scores

    @property
    def row(self) -> tuple[float, ...]:
        """What `COLUMNS` name."""
        values = {"threshold": self.threshold, "voi_sum": self.scores.voi_sum}
        values |= asdict(self.scores)
        return tuple(values[name] for name in COLUMNS)


def sweep(
    out: Path,
    thresholds: Sequence[float],
    truth: str,
    *,
    plot: Path | None = None,
    table: Path | None = None,
) -> list[Point]:
    """Scores at all `thresholds`, lowest first, of the run in the folder `out`.

    Args:
        out: folder of a run whose merge tree is finished.
        thresholds: affinities, 0..1.
        truth: as in `evaluate`.
        plot: picture to make of the scores.
        table: CSV file to write them to.

    Raises:
        CadsegError: no such run, a threshold that `relabel` would refuse, a truth that `evaluate`
            would, or a file that cannot be written; nothing is then.
    """
    store = with_tree(out)
    falling = sorted(set(thresholds), reverse=True)
    for threshold in falling:
        recut(store, threshold)
    _check(plot, table)
    counts = compared(str(out / "fragments"), truth)
    found = map(scores_of, _cuts(store, counts, falling))
    points = [Point(*pair) for pair in zip(falling, found, strict=True)][::-1]
    if table is not None:
        lines = [",".join(map(str, row)) for row in (COLUMNS, *(p.row for p in points))]
        tables.replace(table, "".join(f"{line}\n" for line in lines).encode())
    if plot is not None:
        rows = np.array([point.row for point in points])
        tables.replace(plot, picture.drawn(rows, COLUMNS, points.index(best(points))))
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


def _cuts(store: Store, counts: Counts, falling: Sequence[float]) -> Iterator[Counts]:
    """The counts at each threshold."""
    dtype = store.affinity_dtype
    half = scores.half_bits(dtype)
    nothing = np.empty(0, np.uint64), np.empty(0, np.uint64)
    merges, score = _rising(store, scores.at_least(falling[-1], dtype), half)
    end = score.size
    for threshold in falling:
        begin = int(np.searchsorted(score, np.uint64(scores.at_least(threshold, dtype))))
        # none of their clusters has ended at a higher score, so they are segments by now
        band = Merges(**{name: column[begin:end] for name, column in merges.items()})
        counts = renamed(counts, *cut(band, nothing, threshold=0, half=half))
        yield counts
        end = begin


def _rising(store: Store, least: int, half: int) -> tuple[dict[str, np.ndarray[Any, Any]], Any]:
    """All merges with a score of at least `least`, lowest first, and their scores."""
    parts = []
    for level in range(store.grid.top + 1):
        for cell in store.grid.cells(level):
            part = store.read_table("merges", level, cell)
            holds = scores.scores(part["sum"], part["count"], half) >= np.uint64(least)
            parts.append({name: column[holds] for name, column in part.items()})
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    score = scores.scores(whole["sum"], whole["count"], half)
    order = np.argsort(score)
    return {name: column[order] for name, column in whole.items()}, score[order]
