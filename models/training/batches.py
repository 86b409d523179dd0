"""Batches of crops, made ahead of the steps that learn from them.

The crops of a batch are a function of the seed, the step, and their place in the batch, and of
nothing else: not of what was drawn before, nor of how many processes share the batch. So a run that
stopped goes on with the very crops that it would have seen.

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
    from cadseg.models.training.processes import Share
    from cadseg.models.training.recipe import TrainConfig

AHEAD = 2
"""Batches per reader that wait while the network learns."""


class Batch(NamedTuple):
    """Crops of one step, on the device that learns from them.

    Attributes:
        raw_BDYX: float32, 0..1.
        labels_BDYX: int32; 0 is background, -1 unlabelled.
        origins: where each crop was cut.
    """

    raw_BDYX: Tensor
    labels_BDYX: Tensor
    origins: tuple[Origin, ...]


def batch_of(config: TrainConfig, crops: Crops, step: int, ours: Share) -> Batch:
    """The crops of one step that are `ours`."""
    around = margin(config.augment, config.width)
    wide = config.width + 2 * around
    raws, labels, origins = [], [], []
    for place in range(ours.rank, config.batch, ours.processes):
        rng = np.random.default_rng([config.seed, step, place])
        crop = crops.draw(rng, (config.sections, wide, wide), around)
        changed = augment(rng, crop.raw, crop.labels, width=config.width, config=config.augment)
        raws.append(changed[0])
        labels.append(changed[1])
        origins.append(crop.origin)
    raw_BDYX, labels_BDYX = (torch.stack(parts).to(ours.device) for parts in (raws, labels))
    return Batch(raw_BDYX, labels_BDYX, tuple(origins))


def batches(
    config: TrainConfig, crops: Crops, first: int, ours: Share
) -> Iterator[tuple[int, Batch]]:
    """Steps from `first` to the last with their batches, made ahead by `config.readers` threads."""
    ahead = AHEAD * config.readers

    with ThreadPoolExecutor(config.readers) as pool:

        def made(step: int) -> Future[Batch]:
            return pool.submit(batch_of, config, crops, step, ours)

        waiting = deque(made(step) for step in range(first, min(first + ahead, config.steps)))
        for step in range(first, config.steps):
            batch = waiting.popleft().result()
            if step + ahead < config.steps:
                waiting.append(made(step + ahead))
            yield step, batch
