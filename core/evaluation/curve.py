"""Scores by threshold, for the price of one look at the voxels.

How many voxels each pair of fragment and true neuron has is counted once. After that a threshold
only brings fragments together: from the highest to the lowest, the merges between one threshold and
the next join rows of these counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration import merge_tree
from cadseg.evaluation import metrics
from cadseg.storage.scratch import Scratch
from cadseg.storage.sorting import slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cadseg.agglomeration.agglomerate import Merges
    from cadseg.agglomeration.scoring import Scoring
    from cadseg.arrays import Ids
    from cadseg.evaluation.metrics import Counts, Scores

SCORES = ("threshold", "voi_split", "voi_merge", "voi_sum", "arand")


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


def curve(
    tree: Merges,
    counts: Counts,
    thresholds: Sequence[float],
    *,
    scoring: Scoring,
    min_voxels: int,
) -> list[Point]:
    """Scores at all `thresholds`, each once, lowest first.

    Args:
        tree: all merges; what one builds on stands before it.
        counts: of the fragments, all of them.
        thresholds: none below the floor of the tree.
        scoring: of the merges.
        min_voxels: segments smaller than this merge at every threshold.
    """
    rising = _rising(tree, counts, scoring, min_voxels)
    del tree  # larger than what is made of it
    falling = sorted(set(thresholds), reverse=True)
    floors = (scoring.at_least(threshold) for threshold in falling)
    cuts = map(metrics.scores, _cuts(*rising, counts, floors))
    return [Point(*pair) for pair in zip(falling, cuts, strict=True)][::-1]


def best(points: Sequence[Point]) -> Point:
    """The point with the lowest sum of VOI; of equal ones the highest threshold."""
    return min(points, key=lambda point: (point.scores.voi_sum, -point.threshold))


def _cuts(score: Ids, u: Ids, v: Ids, counts: Counts, falling: Iterable[int]) -> Iterator[Counts]:
    """The counts when all merges of a score, and those above it, hold."""
    end = score.size
    for floor in falling:
        begin = int(np.searchsorted(score, np.uint64(floor)))
        joins = merge_tree.components({"u": u[begin:end], "v": v[begin:end]}, Scratch())
        u, v = joins.of(u[:begin]), joins.of(v[:begin])
        counts = metrics.renamed(counts, joins)
        yield counts
        end = begin


def _rising(
    tree: Merges, counts: Counts, scoring: Scoring, min_voxels: int
) -> tuple[Ids, Ids, Ids]:
    """Scores of all merges, lowest first, and their contacts; small sides merge above all."""
    score = scoring.of_fractions(tree.sum, tree.count)
    if min_voxels:
        fragments, begin = np.unique(counts.segment, return_index=True)
        voxels = np.add.reduceat(counts.voxels, begin).astype(np.uint64)
        small = merge_tree.small_sides(
            slices(vars(tree)), score.size, fragments, voxels, least=min_voxels, scratch=Scratch()
        )
        score[small] = np.iinfo(np.uint64).max
    order = np.argsort(score)
    return score[order], tree.key_u[order], tree.key_v[order]
