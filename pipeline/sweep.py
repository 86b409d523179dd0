"""Scores of a run at many thresholds, for the price of one look at its voxels.

The scores are those of `relabel` followed by `evaluate`, threshold by threshold, within the run's
roi; the run stays as it is. Voxels are counted once, block by block; the rest is done by
`cadseg.evaluation.curve`.

The merges are held in memory, some 90 bytes each, beside the counts.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration.agglomerate import Merges
from cadseg.errors import OutputError
from cadseg.evaluation.curve import SCORES, Point, best, curve
from cadseg.evaluation.metrics import compared
from cadseg.pipeline import plot as picture
from cadseg.pipeline.prepare import recut
from cadseg.pipeline.run import with_tree
from cadseg.storage import tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cadseg.workers.store import Store

MERGES = tuple(field.name for field in fields(Merges))


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
            would, or a file that cannot be written; in all these cases none is.
    """
    store = with_tree(out)
    for threshold in thresholds:
        store = recut(store, threshold, min_voxels).store
    _check(plot, table)
    counts = compared(str(out / "fragments"), truth, store.grid.domain)
    small = store.config.segment.min_voxels
    points = curve(_tree(store), counts, thresholds, scoring=store.scoring, min_voxels=small)
    if table is not None:
        lines = [",".join(map(str, row)) for row in (SCORES, *(p.row for p in points))]
        tables.replace(table, "".join(f"{line}\n" for line in lines).encode())
    if plot is not None:
        rows = np.array([point.row for point in points])
        tables.replace(plot, picture.drawn(rows, SCORES, points.index(best(points))))
    return points


def _check(plot: Path | None, table: Path | None) -> None:
    for path in (plot, table):
        if path is not None and not os.access(path.absolute().parent, os.W_OK):
            raise OutputError(
                f"output {path}: {path.absolute().parent} is no folder that can be written to; "
                "choose another"
            )
    if plot is not None:
        picture.check(plot)


def _tree(store: Store) -> Merges:
    """All merges of the run."""
    parts = []
    for level in range(store.grid.top + 1):  # what a merge builds on stands before it
        parts += [store.read_table("merges", level, cell) for cell in store.grid.cells(level)]
    return Merges(**{name: np.concatenate([part.pop(name) for part in parts]) for name in MERGES})
