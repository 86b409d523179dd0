"""Training of the student: one loop, readable from top to bottom.

`train` reads labelled volumes, and writes into one folder:

    state.pt                    to go on from; replaced at every checkpoint
    step-000500.safetensors     the weights at a checkpoint, ready for `cadseg.models.weights.load`
    log.csv                     step, loss (mean since the last line), learning rate, seconds
    config.json                 the configuration

The batch of a step is a function of the seed and the step alone, so a run that stopped and went on
ends with the same weights as one that did not stop (on one machine, with equally many threads).

Axis letters: B pairs, Y X pixels; 2 stands for lower and upper section.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
import yaml
from pydantic import Field, ValidationError
from torch import Tensor

from cadseg.config import Strict
from cadseg.errors import CadsegError, ConfigError
from cadseg.models import memory, weights
from cadseg.models.affinity import affinities
from cadseg.models.augment import AugmentConfig, augment, margin
from cadseg.models.losses import slice_loss
from cadseg.models.pairs import Labels, Pairs, PairsConfig, Raw
from cadseg.models.student import MULTIPLE, Student, StudentConfig
from cadseg.models.targets import targets_of

if TYPE_CHECKING:
    from pathlib import Path

Positive = Annotated[int, Field(gt=0)]
Loss = Callable[[Student, Tensor, Tensor], Tensor]


class TrainConfig(Strict):
    """Everything a training run depends on; each key is explained in configs/train-default.yaml."""

    volumes: tuple[PairsConfig, ...]
    student: StudentConfig
    augment: AugmentConfig
    crop: Annotated[int, Field(gt=0, multiple_of=MULTIPLE)]
    batch: Positive
    steps: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    precision: Literal["bfloat16", "float32"]
    device: Literal["cpu", "cuda"]
    threads: Positive
    seed: Annotated[int, Field(ge=0)]
    checkpoint_every: Positive
    log_every: Positive


def load_config(path: Path) -> TrainConfig:
    """The configuration in a YAML file.

    Raises:
        ConfigError: not there, not YAML, a key unknown, missing or out of range.
    """
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
        return TrainConfig.model_validate_json(json.dumps(tree))
    except (OSError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"config {path}: cannot be read ({problem})") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"config {path}: {key} is {first['input']!r}: {first['msg']}") from None


def supervised(student: Student, raw_B2YX: Tensor, labels_B2YX: Tensor) -> Tensor:
    """The loss against labels, a scalar.

    Args:
        student: in training mode.
        raw_B2YX: float32, 0..1.
        labels_B2YX: int64, 0 is background.
    """
    affs_B3YX = affinities(*student(raw_B2YX))
    return slice_loss(affs_B3YX[:, None], targets_of(labels_B2YX))


def train(
    config: TrainConfig, out_dir: Path, *, resume: bool = False, loss_of: Loss = supervised
) -> Path:
    """Train a student; returns the path of its last weights.

    Args:
        config: data, network, numbers.
        out_dir: folder for the results; made if need be.
        resume: go on from the last checkpoint in `out_dir`, if there is one.
        loss_of: what to minimise; gets the student, raw (0..1) and labels.

    Raises:
        CadsegError: the loss is not a number; the data or the checkpoint do not fit.
    """
    memory.keep_freed()
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = torch.device(config.device)
    student = Student(config.student).to(device).train()
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    log = _Log(config, out_dir, resume=resume)
    first = log.restore(student, adam)

    for step, (raw, labels) in _batches(config, first):
        for group in adam.param_groups:
            group["lr"] = learning_rate(config, step)
        raw_B2YX = torch.from_numpy(raw).to(device).float().div_(255)
        raw_B2YX = raw_B2YX.contiguous(memory_format=torch.channels_last)
        labels_B2YX = torch.from_numpy(labels).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            loss = loss_of(student, raw_B2YX, labels_B2YX)
        adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        log.loss(step, loss.item())  # raises if the loss is not a number
        adam.step()
        log.checkpoint(step, student, adam)
    return log.weights_path(config.steps)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Half a cosine from `config.learning_rate` at step 0 to 0 at the end."""
    return config.learning_rate * (1 + math.cos(math.pi * step / config.steps)) / 2


def batch_of(config: TrainConfig, pairs: Pairs, step: int) -> tuple[Raw, Labels]:
    """The batch of one step: raw uint8 [B, 2, crop, crop] and labels int64, same shape."""
    rng = np.random.default_rng([config.seed, step])
    size = config.crop + 2 * margin(config.augment, config.crop)
    samples = [
        augment(rng, *pairs.draw(rng, size), crop=config.crop, config=config.augment)
        for _ in range(config.batch)
    ]
    raw, labels = zip(*samples, strict=True)
    return np.stack(raw), np.stack(labels)


def _batches(config: TrainConfig, first: int) -> Iterator[tuple[int, tuple[Raw, Labels]]]:
    """All steps with their batches; the next batch is made while this one is learned from."""
    pairs = Pairs(config.volumes)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(batch_of, config, pairs, first)
        for step in range(first, config.steps):
            batch = following.result()
            following = pool.submit(batch_of, config, pairs, step + 1)
            yield step, batch


class _Log:
    """What a run leaves behind: losses and checkpoints. No numbers are decided here."""

    def __init__(self, config: TrainConfig, out_dir: Path, *, resume: bool) -> None:
        self.config, self.out_dir = config, out_dir
        self._state = out_dir / "state.pt"
        self._csv = out_dir / "log.csv"
        self._resume = resume and self._state.exists()
        if self._state.exists() and not resume:
            raise CadsegError(f"{out_dir} holds a training run; resume it, or choose a new one")
        out_dir.mkdir(parents=True, exist_ok=True)
        if not self._resume:
            self._csv.write_text("step,loss,learning_rate,seconds\n", "utf-8")
            (out_dir / "config.json").write_text(config.model_dump_json(indent=1), "utf-8")
        self._losses: list[float] = []
        self._began = time.perf_counter()

    def weights_path(self, step: int) -> Path:
        return self.out_dir / f"step-{step:06d}.safetensors"

    def restore(self, student: Student, adam: torch.optim.Adam) -> int:
        """Load the last checkpoint, if the run goes on; returns the step to begin with."""
        if not self._resume:
            return 0
        state: dict[str, Any] = torch.load(self._state, weights_only=True)
        if state["config"] != self.config.model_dump_json():
            raise CadsegError(f"{self._state} was made with another configuration than this one")
        student.load_state_dict(state["student"])
        adam.load_state_dict(state["adam"])
        return int(state["step"])

    def loss(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise CadsegError(
                f"the loss is {loss} at step {step}; try a smaller learning_rate than "
                f"{self.config.learning_rate}, or precision float32"
            )
        self._losses.append(loss)
        if (step + 1) % self.config.log_every == 0 or step + 1 == self.config.steps:
            seconds = (time.perf_counter() - self._began) / len(self._losses)
            mean = sum(self._losses) / len(self._losses)
            row = [step + 1, f"{mean:.5f}", f"{learning_rate(self.config, step):.3g}"]
            with self._csv.open("a", newline="") as file:
                csv.writer(file).writerow([*row, f"{seconds:.3f}"])
            place = f"step {step + 1}/{self.config.steps}"
            print(f"{place}  loss {mean:.4f}  {seconds:.2f} s/step", flush=True)
            self._losses, self._began = [], time.perf_counter()

    def checkpoint(self, step: int, student: Student, adam: torch.optim.Adam) -> None:
        done = step + 1
        if done % self.config.checkpoint_every and done != self.config.steps:
            return
        weights.save(self.weights_path(done), student)
        temporary = self._state.with_suffix(".part")
        state = {"student": student.state_dict(), "adam": adam.state_dict()}
        torch.save({**state, "step": done, "config": self.config.model_dump_json()}, temporary)
        temporary.replace(self._state)
