"""Cuts at many thresholds, for the price of one look at the voxels.

How many voxels each pair of fragment and true neuron has is counted once. After that a threshold
only brings fragments together: from the highest to the lowest, the merges between one threshold and
the next join rows of these counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg import merges, scores
from cadseg.evaluate import renamed
from cadseg.fragments import lookup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cadseg.agglomerate import Merges
    from cadseg.evaluate import Counts
    from cadseg.fragments import Ids


def cuts(
    tree: Merges, counts: Counts, falling: Sequence[float], *, dtype: Any, min_voxels: int
) -> Iterator[Counts]:
    """The counts at each threshold.

    Args:
        tree: all merges; what one builds on stands before it.
        counts: of the fragments, all of them.
        falling: thresholds, highest first, none below the floor of the tree.
        dtype: of the affinities.
        min_voxels: segments smaller than this merge at every threshold.
    """
    score, u, v = _rising(tree, counts, dtype, min_voxels)
    del tree  # larger than what is made of it
    end = score.size
    for threshold in falling:
        begin = int(np.searchsorted(score, np.uint64(scores.at_least(threshold, dtype))))
        joins = merges.components(u[begin:end], v[begin:end])
        u, v = lookup(u[:begin], *joins), lookup(v[:begin], *joins)
        counts = renamed(counts, *joins)
        yield counts
        end = begin


def _rising(tree: Merges, counts: Counts, dtype: Any, min_voxels: int) -> tuple[Ids, Ids, Ids]:
    """Scores of all merges, lowest first, and their contacts; small sides merge above all."""
    score = scores.scores(tree.sum, tree.count, scores.half_bits(dtype))
    if min_voxels:
        fragments, begin = np.unique(counts.segment, return_index=True)
        voxels = np.add.reduceat(counts.voxels, begin)
        smaller = merges.smaller_sides(tree, fragments, voxels)
        score[smaller < min_voxels] = np.iinfo(np.uint64).max
    order = np.argsort(score)
    return score[order], tree.key_u[order], tree.key_v[order]
