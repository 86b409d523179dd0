"""Raw sections of a block → affinities, one network tile after the other.

Section pairs (z - 1, z) go through the network in groups counted from the volume's first section,
and a pair always has the same place in its group, so that what it gives does not depend on the
block. The volume's first section has none below it and is paired with the one above. (Students have
not learned pairs of equal sections: with its first section paired with itself, VOI of 8 sections of
SNEMI3D was 0.04 to 0.1 bits higher than with a true pair.)
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.blocks import Block, Roi
from cadseg.models.tiles import Tile, inside, padded, tiles
from cadseg.storage import inputs
from cadseg.workers.arrays import AFFINITIES
from cadseg.workers.estimates import decoding
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.models.predict import Predictor
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write `affinities` of the block."""
    affinities, count = predicted(block.write, store)
    store.write("affinities", block, affinities)
    return {"tiles": count}


def predicted(roi: Roi, store: Store) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], int]:
    """Affinities [3, z, y, x] uint8 of a box, and how often the network ran for them."""
    config = store.config.predict
    out = np.zeros((3, *roi.shape), np.uint8)
    count = 0
    for tile in tiles(roi, store.grid.shape, tile=config.tile, halo=config.halo):
        begin = roi.begin[0] // config.batch * config.batch
        for first in range(begin, roi.end[0], config.batch):
            _predict(store, roi, tile, first, out)
            count += 1
    for axis in range(3):  # nothing to be joined to
        if roi.begin[axis] == store.grid.domain.begin[axis]:
            np.moveaxis(out[axis], axis, 0)[0] = 0
    return out, count


def _predict(
    store: Store, roi: Roi, tile: Tile, first: int, out: np.ndarray[Any, np.dtype[np.uint8]]
) -> None:
    """One tile of one group of section pairs, into its place in `out`."""
    batch = store.config.predict.batch
    begin, end = max(first, roi.begin[0]), min(first + batch, roi.end[0])
    depth = store.grid.shape[0]
    sections = (max(0, begin - 1), end if begin else max(end, min(2, depth)))
    box = inside(tile, sections, store.grid.shape)
    raw = inputs.as_uint8(store.raw.read(box), store.config.volume.grey_range)
    raw = padded(raw, tile)
    pairs = np.zeros((batch, 2, *raw.shape[1:]), np.uint8)
    for z in range(begin, end):
        lower = z - 1 if z else min(1, depth - 1)
        pairs[z - first] = raw[lower - box.begin[0]], raw[z - box.begin[0]]
    affinities = _predictor(store)(pairs)
    (y0, y1), (x0, x1) = tile.core
    here = Roi((begin, y0, x0), (end, y1, x1)).clipped(roi)
    source = here.slices((first, tile.window[0][0], tile.window[1][0]))
    out[(slice(None), *here.slices(roi.begin))] = affinities.swapaxes(0, 1)[(slice(None), *source)]


def _predictor(store: Store) -> Predictor:
    """The network, loaded once per process."""
    network = store.manifest.network
    assert network is not None, "a run from affinities predicts none"
    return _loaded(network.weights, network.device, store.config.predict.threads)


@functools.cache
def _loaded(name: str, device: str, threads: int) -> Predictor:
    from cadseg.models import weights  # torch takes seconds to import
    from cadseg.models.predict import Predictor

    return Predictor(weights.find(name), device=device, threads=threads)


PER_VOXEL = 4
"""Bytes per voxel that a block writes."""

NETWORK = 150_000_000
"""Bytes of torch and the student's weights: 128 MB (linux, torch 2.13 for CPUs)."""

CUDA = 4_000_000_000
"""More with CUDA: an allowance, not measured."""

PER_WINDOW = 1200
"""Bytes per voxel of a tile's window: 1105 at 256², 950 at 512², 891 at 768², the same per pair."""


def cost(work: Work) -> Cost:
    """All tiles with their windows."""
    store = work.store
    return Cost(
        memory=PER_VOXEL * work.largest + _network(store) + decoding(store),
        read=_windows(store),
        written=AFFINITIES * work.voxels,
        shards=work.blocks,
    )


def _network(store: Store) -> int:
    """Bytes that the network takes, which is where `predict` has its peak."""
    config = store.config.predict
    window = math.prod(
        min(t + 2 * config.halo, -(-n // 16) * 16)
        for t, n in zip(config.tile, store.grid.shape[1:], strict=True)
    )
    network = store.manifest.network
    cuda = CUDA if network is not None and network.device == "cuda" else 0
    return NETWORK + cuda + PER_WINDOW * config.batch * window


def _windows(store: Store) -> int:
    """Bytes of grey values that all tiles of all section pairs see."""
    config, (nz, ny, nx) = store.config.predict, store.grid.domain.shape
    area = math.prod(
        min(n, -(-n // t) * (t + 2 * config.halo)) if n <= t else -(-n // t) * (t + 2 * config.halo)
        for n, t in zip((ny, nx), config.tile, strict=True)
    )
    return nz * (config.batch + 1) * area * store.raw.dtype.itemsize // config.batch


KIND = StepKind(name="predict", run=run, cost=cost, writes=("affinities",))
