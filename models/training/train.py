"""Training: one loop, readable from top to bottom.

`train` teaches a student, a teacher, or both at once, as `cadseg.models.training.objective` has it.
A run that stopped and goes on ends with the same weights as one that did not stop (on the CPU of
one machine, with equally many threads). What it leaves in its folder,
`cadseg.models.training.checkpoints` and `cadseg.models.training.log` list. The best weights are
those with the lowest VOI on the held-out sections.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cadseg.models import memory
from cadseg.models.training.batches import batches
from cadseg.models.training.checkpoints import Checkpoints, Part
from cadseg.models.training.crops import Crops
from cadseg.models.training.log import Journal
from cadseg.models.training.objective import Objective
from cadseg.models.training.processes import share
from cadseg.models.training.validate import Validator

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.models.training.processes import Share
    from cadseg.models.training.recipe import TrainConfig


def train(config: TrainConfig, folder: Path, *, resume: bool = False) -> None:
    """Train the networks of `config` and leave them in `folder`.

    Args:
        config: data, networks, losses, numbers.
        folder: for the results; made if need be.
        resume: go on from the last checkpoint in `folder`, if there is one.

    Raises:
        CadsegError: the data, the config or the checkpoint do not fit; a loss is not a number; a
            checkpoint cannot be written.
    """
    memory.keep_freed()
    torch.set_num_threads(config.threads)
    with share(config.device, config.batch) as ours:
        _train(config, folder, ours, resume=resume)


def _train(config: TrainConfig, folder: Path, ours: Share, *, resume: bool) -> None:
    torch.manual_seed(config.seed)
    objective = Objective(config.objective, config.precision).to(ours.device).train()
    adam = adam_of(objective, config)
    ema = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
    average = AveragedModel(objective, multi_avg_fn=ema, use_buffers=True)
    parts: dict[str, Part] = {"objective": objective, "adam": adam, "average": average}
    checkpoints = Checkpoints(config, folder, parts, resume=resume)
    if checkpoints.done == config.steps:
        return
    crops = Crops(config.data)
    validator = Validator(config.validation, config.precision)
    if config.compile:
        objective.compile_networks()
    model = ours.joined(objective)
    with checkpoints.kept():
        journal = Journal(config, folder, checkpoints.done, ours)
        for step, batch in batches(config, crops, checkpoints.done, ours):
            rate = learning_rate(config, step)
            for group in adam.param_groups:
                group["lr"] = rate
            together = step >= config.objective.together_from
            losses = model(batch.raw_BDYX, batch.labels_BDYX, together=together)
            adam.zero_grad(set_to_none=True)
            sum(losses.values()).backward()
            adam.step()
            average.update_parameters(objective)
            journal.losses(step, losses, batch.origins)

            done = step + 1
            if _due(done, config.log_every, config) or _due(done, config.checkpoint_every, config):
                journal.line(done, rate, objective)  # raises if anything was not a number
            if ours.writes and _due(done, config.checkpoint_every, config):
                networks = average.module.networks()  # type: ignore[operator]
                best = journal.validation(done, validator(next(iter(networks.values()))))
                checkpoints.save(done, networks, best=best)
        journal.close()


def learning_rate(config: TrainConfig, step: int) -> float:
    """Rises in a line over the warm-up, then falls along half a cosine to 0, or stays."""
    adam = config.adam
    rising = min(1.0, (step + 1) / (adam.warmup + 1))
    falling = (1 + math.cos(math.pi * step / config.steps)) / 2 if adam.decay == "cosine" else 1.0
    return adam.learning_rate * rising * falling


def adam_of(objective: Objective, config: TrainConfig) -> torch.optim.Adam:
    """The optimiser of what learns."""
    adam = config.adam
    return torch.optim.Adam(
        [p for p in objective.parameters() if p.requires_grad],
        adam.learning_rate,
        betas=adam.betas,
        eps=adam.eps,
        weight_decay=adam.weight_decay,
        amsgrad=adam.amsgrad,
        fused=True,
    )


def _due(done: int, every: int, config: TrainConfig) -> bool:
    return done % every == 0 or done == config.steps
