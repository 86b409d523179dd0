"""Everything that a worker needs, imported and loaded: what its first blocks would wait for.

Most of the first call of a kernel is numba's start, and a run has a dozen steps. So a tiny run is
computed in this process, through every kind of step but the network's: forks of it begin at once,
and a new kind of step needs no word here. (torch is not loaded: forks would not survive its
threads.)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from cadseg.blocks import Roi, Zyx
from cadseg.models import memory
from cadseg.pipeline.layout import create_arrays, make_group
from cadseg.pipeline.prepare import prepare
from cadseg.storage.local_files import LocalFiles
from cadseg.storage.outputs import create_output
from cadseg.workers.process import process
from cadseg.workers.stages import steps_of

SHAPE: Zyx = (2, 8, 24)
CHANGES = (
    "block_shape=[2, 8, 8]",  # three blocks, so that there are levels to go up and down
    "volume.voxel_size=[1, 1, 1]",
    "segment.min_voxels=2",  # all steps that there are
    "segment.pyramid_levels=1",
)


def preload() -> None:
    """Compute a tiny run; from then on the process and its forks keep freed memory for reuse."""
    memory.keep_freed()
    with tempfile.TemporaryDirectory() as folder:
        files = LocalFiles(folder)
        affinities = create_output(
            files, "affinities", lead=(3,), shape=SHAPE, dtype="uint8", shard=SHAPE
        )
        noise = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)
        with files.batch() as batch:
            affinities.write(batch, Roi((0, 0, 0), SHAPE), noise)
        store = prepare(
            f"{folder}/affinities",
            source="affinities",
            out=Path(folder, "out"),
            config="ssem",
            overrides=CHANGES,
        ).store
        make_group(store.files)
        create_arrays(store)
        for step in steps_of(store):
            for cell in store.grid.cells(step.level):
                process(store, step, cell)
