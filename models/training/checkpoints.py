"""The state of a training run on disk: what it takes to go on as if nothing had happened.

    config.json                  the configuration
    state.pt                     networks, optimiser, averages, step; replaced whole
    student-000500.safetensors   weights at a checkpoint, ready for ``--weights``
    teacher-000500.safetensors   of the teacher, if it learns
    best.safetensors             the weights that scored best so far, of the student if it learns

Crops and augmentation are functions of the seed and the step, so no generator's state is kept.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any, Protocol

import torch

from cadseg.errors import CadsegError, StageError
from cadseg.models import weights
from cadseg.storage import tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cadseg.models.network import Network
    from cadseg.models.training.recipe import TrainConfig

STATE = "state.pt"
BEST = f"best{weights.SUFFIX}"


class Part(Protocol):
    """What has a state: a network, an optimiser."""

    def state_dict(self) -> Any:
        """The state, of tensors and plain values."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Take a state."""


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        folder: of the run.
        done: steps that the last checkpoint has seen.
        parts: what has a state, by name.
    """

    def __init__(
        self, config: TrainConfig, folder: Path, parts: Mapping[str, Part], *, resume: bool
    ) -> None:
        """Begin a run in a new folder, or load the last state of the one that is there.

        Raises:
            CadsegError: the folder holds a run and `resume` is false, or one of another config.
        """
        self.folder, self.parts, self.done = folder, parts, 0
        self._config = config.model_dump_json()
        if not (folder / STATE).exists():
            return
        if not resume:
            raise CadsegError(
                f"{folder} holds a training run; go on with it by --resume, or choose a new folder"
            )
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        if state["config"] != self._config:
            raise CadsegError(
                f"{folder / STATE} was made with another configuration than this one; accepted is "
                f"that of {folder / 'config.json'}"
            )
        for name, part in parts.items():
            part.load_state_dict(state[name])
        self.done = int(state["step"])

    def save(self, done: int, networks: Mapping[str, Network], *, best: bool) -> None:
        """Write weights, then the state; the last state stays whole until then.

        Args:
            done: steps that were made.
            networks: to keep, by name.
            best: whether the first of them is the best so far.
        """
        tables.replace(self.folder / "config.json", self._config.encode())
        for name, network in networks.items():
            weights.save(self.folder / f"{name}-{done:06d}{weights.SUFFIX}", network)
        if best:
            weights.save(self.folder / BEST, next(iter(networks.values())))
        state = {name: part.state_dict() for name, part in self.parts.items()}
        buffer = io.BytesIO()
        torch.save(state | {"step": done, "config": self._config}, buffer)
        tables.replace(self.folder / STATE, buffer.getbuffer())
        self.done = done

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Where the run writes to its folder.

        Raises:
            StageError: a file cannot be written, say because the disk is full.
        """
        try:
            yield
        except OSError as error:
            whole = f"the checkpoint of step {self.done} is whole: --resume goes on from it"
            raise StageError(
                f"{self.folder} cannot be written ({error.strerror}); "
                f"{whole if self.done else 'there is no checkpoint yet'}"
            ) from None
