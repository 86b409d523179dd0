"""A small volume as one block, in memory: what a run finds in it, scored at many thresholds.

Bytes are [3, z, y, x] uint8 as everywhere. The kernels and numbers are those of a run, which
does not depend on how a volume is cut; so `scores_at` are the scores of a run in blocks, followed
by `relabel` and `evaluate` at every threshold.

The config's `fragments`, `agglomerate` and `segment.min_voxels` count; the rest of it is about
files, workers and the network. Memory is some 50 bytes per voxel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cadseg.agglomeration.agglomerate import Merges, agglomerate
from cadseg.agglomeration.scoring import Scoring
from cadseg.blocks import Roi, zyx
from cadseg.errors import ConfigError, VolumeError
from cadseg.evaluation import metrics
from cadseg.evaluation.curve import curve
from cadseg.fragments import climb
from cadseg.fragments.heights import heights
from cadseg.graph import edges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cadseg.arrays import Array, Bytes, Ids
    from cadseg.config import Config
    from cadseg.evaluation.metrics import Scores


def scores_at(
    affinities: Bytes,
    labels: Array,
    thresholds: Sequence[float],
    config: Config,
) -> list[Scores]:
    """Scores of the segmentation at each threshold, in their order.

    Args:
        affinities: [3, z, y, x].
        labels: [z, y, x] integers; voxels at which they are 0 or less are left out.
        thresholds: affinities, 0..1.
        config: of a run.

    Raises:
        ConfigError: as `check`.
        VolumeError: all labels are 0 or less.
    """
    check(config, thresholds)
    if not (labels > 0).any():
        raise VolumeError("labels: none is above 0, so nothing is compared")
    ids, tree = merged(affinities, config)
    counts = metrics.contingency(ids, np.maximum(labels, 0))
    small = config.segment.min_voxels
    points = curve(tree, counts, thresholds, scoring=_scoring(affinities, config), min_voxels=small)
    by_threshold = {point.threshold: point.scores for point in points}
    return [by_threshold[threshold] for threshold in thresholds]


def check(config: Config, thresholds: Sequence[float]) -> None:
    """See that `scores_at` can score these thresholds.

    Raises:
        ConfigError: one is below the floor, under which nothing merges; or the engine is not ours.
    """
    if config.agglomerate.engine != "exact":
        raise ConfigError(
            f"agglomerate.engine is {config.agglomerate.engine}; a volume in memory is merged by "
            "the engine exact alone"
        )
    floor = config.agglomerate.min_affinity
    for threshold in thresholds:
        if not floor <= threshold <= 1:
            raise ConfigError(
                f"threshold {threshold}: accepted are affinities from agglomerate.min_affinity, "
                f"{floor}, to 1"
            )


def merged(affinities: Bytes, config: Config) -> tuple[Ids, Merges]:
    """Fragments [z, y, x] uint64 of a volume, and their merge tree."""
    ids, contacts = _fragments(affinities, config)
    scoring = _scoring(affinities, config)
    tree, _ = agglomerate(
        scoring.method.from_edges(contacts),
        np.empty(0, np.uint64),  # nothing goes on outside
        scoring=scoring,
        floor=scoring.at_least(config.agglomerate.min_affinity),
    )
    return ids, tree


def _scoring(affinities: Bytes, config: Config) -> Scoring:
    return Scoring.of(config.agglomerate.scoring, affinities.dtype)


def _fragments(affinities: Bytes, config: Config) -> tuple[Ids, edges.Edges]:
    """Fragments, and the edges between them."""
    numbers = config.fragments
    box = Roi((0, 0, 0), zyx(affinities.shape[1:]))
    field = heights(
        affinities[-numbers.dimensions :],
        distance_clip=numbers.distance_clip,
        sigma=numbers.sigma,
        boundary_weight=numbers.boundary_weight,
    )
    found = climb.climb(field, box, box, box.shape, dimensions=numbers.dimensions)
    names, pairs = np.append(np.uint64(0), found.ids), edges.pairs_inside(affinities, found.labels)
    return names[found.labels], edges.edges_of([pairs], names)
