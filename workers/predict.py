"""Raw sections of a block → affinities, one tile of the network after the other.

Tiles lie on a grid from the volume's origin along all three axes, and a tile is computed whole
whichever block asks for a part of it, so that what it gives does not depend on the block. Planes at
the lower faces of what is segmented have nothing to be joined to: there affinities are 0.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.models import weights
from cadseg.models.predict import Predictor
from cadseg.models.tiles import Tiling
from cadseg.storage import inputs

if TYPE_CHECKING:
    from cadseg.blocks import Block, Roi
    from cadseg.models.network import Needs
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write `affinities` of the block."""
    affinities, count = predicted(block.write, store)
    store.write("affinities", block, affinities)
    return {"tiles": count}


def predicted(roi: Roi, store: Store) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], int]:
    """Affinities [3, z, y, x] uint8 of a box, and how often the network ran for them."""

    def read(box: Roi) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return inputs.as_uint8(store.raw.read(box), store.config.volume.grey_range)

    out, count = tiling(store).predicted(roi, read, _predictor(store))
    for axis in range(3):
        if roi.begin[axis] == store.grid.domain.begin[axis]:
            np.moveaxis(out[axis], axis, 0)[0] = 0
    return out, count


def tiling(store: Store) -> Tiling:
    """The network's tiles of the run's volume."""
    needs = _needs(store.run["weights"])
    return Tiling.of(store.config.predict, needs, store.grid.shape)


def _predictor(store: Store) -> Predictor:
    """The network, loaded once per process."""
    return _loaded(store.run["weights"], store.run["device"], store.config.predict.threads)


@functools.cache
def _needs(path: str) -> Needs:
    return weights.needs(Path(path))


@functools.cache
def _loaded(path: str, device: str, threads: int) -> Predictor:
    return Predictor(Path(path), device=device, threads=threads)
