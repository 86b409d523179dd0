"""The training loop.

`train` trains a student, a teacher, or both jointly (`cadseg.models.training.objective`). A resumed
run ends with the same weights as an uninterrupted one, on the CPU of one machine and with the same
number of threads. `cadseg.models.training.checkpoints` and `cadseg.models.training.log` list the
files that it writes. Validated and saved are exponential moving averages of the weights; the best
ones are those with the lowest VOI on the held-out volumes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cadseg.models import memory
from cadseg.models.training.batches import batches
from cadseg.models.training.checkpoints import Checkpoints, Stateful
from cadseg.models.training.crops import Crops
from cadseg.models.training.log import TrainingLog
from cadseg.models.training.objective import Objective
from cadseg.models.training.processes import process_group
from cadseg.models.training.validate import Validator

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.models.training.processes import Process
    from cadseg.models.training.recipe import TrainConfig


def train(config: TrainConfig, folder: Path, *, resume: bool = False) -> None:
    """Train the networks of `config` and save them in `folder`.

    Args:
        config: data, networks, losses, numbers.
        folder: for the results; created if it does not exist.
        resume: go on from the last checkpoint in `folder`, if there is one.

    Raises:
        CadsegError: the data, the config or the checkpoint do not fit; a loss or a weight is not
            finite; a checkpoint cannot be written.
    """
    memory.keep_freed()
    torch.set_num_threads(config.threads)
    with process_group(config.device, config.batch) as process:
        _train(config, folder, process, resume=resume)


def _train(config: TrainConfig, folder: Path, process: Process, *, resume: bool) -> None:
    torch.manual_seed(config.seed)
    objective = Objective(config.objective, config.precision).to(process.device).train()
    adam = optimiser_of(objective, config)
    ema = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
    average = AveragedModel(objective, multi_avg_fn=ema, use_buffers=True)
    parts: dict[str, Stateful] = {"objective": objective, "adam": adam, "average": average}
    checkpoints = Checkpoints(config, folder, parts, resume=resume)
    if checkpoints.done == config.steps:
        return
    crops = Crops(config.data)
    validator = Validator(config.validation, config.precision)
    if config.compile:
        objective.compile_networks()
    model = process.parallel(objective)
    with checkpoints.explained():
        log = TrainingLog(config, folder, checkpoints.done, process)
        for step, batch in batches(config, crops, checkpoints.done, process):
            rate = learning_rate(config, step)
            for group in adam.param_groups:
                group["lr"] = rate
            together = step >= config.objective.together_from
            losses = model(batch.raw_BDYX, batch.labels_BDYX, together=together)
            adam.zero_grad(set_to_none=True)
            sum(losses.values()).backward()
            adam.step()
            average.update_parameters(objective)
            log.add_losses(step, losses, batch.origins)

            done = step + 1
            if _due(done, config.log_every, config) or _due(done, config.checkpoint_every, config):
                log.write_line(done, rate, objective)  # raises if anything is not finite
            if process.writes and _due(done, config.checkpoint_every, config):
                networks = average.module.networks()  # type: ignore[operator]
                best = log.write_validation(done, validator(next(iter(networks.values()))))
                checkpoints.save(done, networks, best=best)
        log.close()


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of a step: linear warm-up, times cosine decay to 0 or a constant."""
    adam = config.adam
    warmup = min(1.0, (step + 1) / (adam.warmup + 1))
    decay = (1 + math.cos(math.pi * step / config.steps)) / 2 if adam.decay == "cosine" else 1.0
    return adam.learning_rate * warmup * decay


def optimiser_of(objective: Objective, config: TrainConfig) -> torch.optim.Adam:
    """Adam, for all parameters that are trained."""
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
