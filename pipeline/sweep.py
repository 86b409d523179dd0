"""Scores of a run at many thresholds, from a single pass over its voxels.

The scores are those of `relabel` followed by `evaluate`, threshold by threshold, within the run's
roi; the run is not changed. The contingency table of fragments and true neurons is computed once,
block by block; `cadseg.evaluation.curve` merges its rows.

The whole merge tree is held in memory, some 90 bytes per merge, besides that table.
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
from cadseg.pipeline import plot as figure
from cadseg.pipeline.prepare import recut
from cadseg.pipeline.run import with_tree
from cadseg.storage.local_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cadseg.workers.store import Store

MERGES = tuple(field.name for field in fields(Merges))


def sweep(
    out: str | Path,
    thresholds: Sequence[float],
    truth: str,
    *,
    min_voxels: int | None = None,
    plot: Path | None = None,
    table: Path | None = None,
) -> list[Point]:
    """Scores at all `thresholds`, lowest first, of the run at `out`.

    Args:
        out: of a run whose merge tree is finished.
        thresholds: affinities, 0..1.
        truth: as in `evaluate`.
        min_voxels: as in `relabel`.
        plot: PNG file for a plot of the scores.
        table: CSV file for the scores.

    Raises:
        CadsegError: no such run, a threshold that `relabel` would refuse, a truth that `evaluate`
            would refuse, or a file that cannot be written; no file is written then.
    """
    store = with_tree(out)
    for threshold in thresholds:
        store = recut(store, threshold, min_voxels).store
    _check(plot, table)
    counts = compared(f"{store.files.url}/fragments", truth, store.grid.domain)
    small = store.config.segment.min_voxels
    points = curve(_tree(store), counts, thresholds, scoring=store.scoring, min_voxels=small)
    if table is not None:
        lines = [",".join(map(str, row)) for row in (SCORES, *(p.row for p in points))]
        write_whole(table, "".join(f"{line}\n" for line in lines).encode())
    if plot is not None:
        rows = np.array([point.row for point in points])
        write_whole(plot, figure.png(rows, SCORES, points.index(best(points))))
    return points


def _check(plot: Path | None, table: Path | None) -> None:
    for path in (plot, table):
        if path is not None and not os.access(path.absolute().parent, os.W_OK):
            raise OutputError(
                f"output {path}: {path.absolute().parent} is no folder that can be written to; "
                "choose another"
            )
    if plot is not None:
        figure.check(plot)


def _tree(store: Store) -> Merges:
    """All merges of the run."""
    parts = []
    for level in range(store.grid.top + 1):  # so that a merge comes after those it depends on
        parts += [store.read_table("merges", level, cell) for cell in store.grid.cells(level)]
    return Merges(**{name: np.concatenate([part.pop(name) for part in parts]) for name in MERGES})
