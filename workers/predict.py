"""Raw sections of a block → affinities, one tile of the network after the other.

Tiles lie on a grid from the volume's origin along all three axes, and a tile is computed whole
whichever block asks for a part of it, so that what it gives does not depend on the block. Planes at
the lower faces of what is segmented have nothing to be joined to: there affinities are 0.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cadseg.models.tiles import Tiling
from cadseg.storage import inputs
from cadseg.workers.arrays import AFFINITIES
from cadseg.workers.estimates import decoding
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from cadseg.arrays import Bytes
    from cadseg.blocks import Block, Roi
    from cadseg.models.network import Needs
    from cadseg.models.predict import Predictor
    from cadseg.workers.checkpoint import Checkpoint
    from cadseg.workers.manifest import NetworkOrigin
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter

PER_VOXEL = 4
"""Bytes per voxel that a block writes."""

TORCH = 150_000_000
"""Bytes of torch and the student's weights: 128 MB (linux, torch 2.13 for CPUs)."""

CUDA = 4_000_000_000
"""More with CUDA: an allowance, not measured."""


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write `affinities` of the block."""
    affinities, count = predicted(block.write, store, out.checkpoint)
    out.array("affinities", affinities)
    return {"tiles": count}


def predicted(roi: Roi, store: Store, checkpoint: Checkpoint) -> tuple[Bytes, int]:
    """Affinities [3, z, y, x] uint8 of a box, and of how many tiles they are made.

    Tiles that are finished are kept in the block's checkpoint.
    """

    def read(box: Roi) -> Bytes:
        return inputs.as_uint8(store.raw.read(box), store.config.volume.grey_range)

    out, count = tiling(store).predicted(roi, read, _predictor(store), checkpoint.missing)
    for axis in range(3):
        if roi.begin[axis] == store.grid.domain.begin[axis]:
            np.moveaxis(out[axis], axis, 0)[0] = 0
    return out, count


def tiling(store: Store) -> Tiling:
    """The network's tiles of the run's volume."""
    return Tiling.of(store.config.predict, _needs(_network(store).weights), store.grid.shape)


def cost(work: Work) -> Cost:
    """All tiles with their windows."""
    store, tiles = work.store, tiling(work.store)
    network = TORCH + tiles.memory() + (CUDA if _network(store).device == "cuda" else 0)
    return Cost(
        memory=PER_VOXEL * work.largest + network + decoding(store),
        read=tiles.voxels_read(store.grid.domain) * store.raw.dtype.itemsize,
        written=AFFINITIES * work.voxels,
        shards=work.blocks,
    )


def _network(store: Store) -> NetworkOrigin:
    network = store.manifest.network
    assert network is not None, "a run from affinities has no network"
    return network


def _predictor(store: Store) -> Predictor:
    """The network, loaded once per process."""
    network = _network(store)
    return _loaded(network.weights, network.device, store.config.predict.threads)


@functools.cache
def _needs(path: str) -> Needs:
    from cadseg.models import weights  # torch takes seconds to import

    return weights.needs(Path(path))


@functools.cache
def _loaded(path: str, device: str, threads: int) -> Predictor:
    from cadseg.models.predict import Predictor

    return Predictor(Path(path), device=device, threads=threads)


KIND = StepKind(name="predict", run=run, cost=cost, writes=("affinities",))
