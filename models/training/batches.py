"""Batches of augmented crops, prefetched by threads.

A crop is a function of the seed, the step, and its index in the batch, and of nothing else: neither
of earlier random draws, nor of the number of processes that the batch is divided among. So a
resumed run sees the same crops as an uninterrupted one.

Axis letters: B crops, D sections of a crop, Y X pixels.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cadseg.models.training.augment import augment, margin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cadseg.models.training.crops import Crops, Origin
    from cadseg.models.training.processes import Process
    from cadseg.models.training.recipe import TrainConfig

AHEAD = 2
"""Batches that are prefetched per reader."""


class Batch(NamedTuple):
    """Crops of one step, on the device of the process.

    Attributes:
        raw_BDYX: float32, 0..1.
        labels_BDYX: int32; 0 is background, -1 unlabelled.
        origins: where each crop was cut.
    """

    raw_BDYX: Tensor
    labels_BDYX: Tensor
    origins: tuple[Origin, ...]


def batch_of(config: TrainConfig, crops: Crops, step: int, process: Process) -> Batch:
    """The crops of one step that fall to `process`: every `world_size`-th one."""
    border = margin(config.augment, config.width)
    wide = config.width + 2 * border
    raws, labels, origins = [], [], []
    for index in range(process.rank, config.batch, process.world_size):
        rng = np.random.default_rng([config.seed, step, index])
        crop = crops.draw(rng, (config.sections, wide, wide), border)
        raw, label = augment(rng, crop.raw, crop.labels, width=config.width, config=config.augment)
        raws.append(raw)
        labels.append(label)
        origins.append(crop.origin)
    raw_BDYX, labels_BDYX = (torch.stack(parts).to(process.device) for parts in (raws, labels))
    return Batch(raw_BDYX, labels_BDYX, tuple(origins))


def batches(
    config: TrainConfig, crops: Crops, first: int, process: Process
) -> Iterator[tuple[int, Batch]]:
    """Steps from `first` to the last with their batches, prefetched by `config.readers` threads."""
    ahead = AHEAD * config.readers

    with ThreadPoolExecutor(config.readers) as pool:

        def submit(step: int) -> Future[Batch]:
            return pool.submit(batch_of, config, crops, step, process)

        waiting = deque(submit(step) for step in range(first, min(first + ahead, config.steps)))
        for step in range(first, config.steps):
            batch = waiting.popleft().result()
            if step + ahead < config.steps:
                waiting.append(submit(step + ahead))
            yield step, batch
