"""The recipe of the CAD paper, on one volume in memory: seeded watershed per section, then waterz.

    python waterz_peer.py AFFINITIES OUT SCORING

Seeds are the maxima of the distance to the nearest boundary, b > 0.5, where b is one less the mean
affinity within the section; the watershed floods b.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import mahotas
import numpy as np
import waterz

from cadseg.blocks import Roi
from cadseg.storage import outputs, volume
from cadseg.storage.local_files import LocalFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Array = np.ndarray[Any, Any]

THRESHOLD = 0.5
# waterz's name of the score, and bins of its queue (0: an exact one)
SCORINGS = {
    "median": ("OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256>>", 256),
    "mean": ("OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>", 0),
}


def fragments(affinities: Array) -> Array:
    """Fragments [z, y, x] uint64 of affinities [3, z, y, x] float32."""
    found = np.empty(affinities.shape[1:], np.uint64)
    last = 0
    for z, section in enumerate(affinities[1:].swapaxes(0, 1)):
        boundary = 1 - section.mean(0)
        distance = mahotas.distance(boundary < 0.5)
        seeds, count = mahotas.label(mahotas.regmax(distance))
        found[z] = mahotas.cwatershed(boundary, seeds) + last
        last += count
    return found


def segmentations(
    affinities: Array, fragments: Array, thresholds: Iterable[float], scoring: str
) -> Iterator[tuple[float, Array]]:
    """Threshold (an affinity) and segmentation, from the highest threshold on.

    A segmentation is overwritten by the next.
    """
    function, bins = SCORINGS[scoring]
    falling = sorted(thresholds, reverse=True)
    found = waterz.agglomerate(
        affinities,
        [1 - threshold for threshold in falling],
        fragments=fragments.copy(),
        scoring_function=function,
        discretize_queue=bins,
    )
    return zip(falling, found, strict=True)


def read(url: str) -> Array:
    """Affinities in 0..1, as waterz wants them."""
    array = volume.open_volume(url)
    data = array.read(Roi((0, 0, 0), array.extent))
    return np.divide(data, np.float32(255), dtype=np.float32)


def main() -> None:
    """From affinities on disk to a segmentation on disk."""
    url, out, scoring = sys.argv[1:]
    affinities = read(url)
    ((_, found),) = segmentations(affinities, fragments(affinities), [THRESHOLD], scoring)
    whole = Roi((0, 0, 0), found.shape)
    outputs.create_output(
        LocalFiles(out), "segmentation", shape=found.shape, dtype="uint64", shard=(48, 1024, 1024)
    ).write(whole, found)


if __name__ == "__main__":
    main()
