"""Checkpoints: all that a resumed run needs to end with the same weights as an uninterrupted one.

    config.json                  the configuration
    state.pt                     networks, optimiser, moving averages, step; replaced atomically
    student-000500.safetensors   averaged weights after step 500, ready for ``--weights``
    teacher-000500.safetensors   of the teacher, if it learns
    best.safetensors             the weights with the lowest VOI, of the student if it learns

Crops and augmentation are functions of the seed and the step, so no generator's state is saved.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any, Protocol

import torch

from cadseg.errors import CadsegError, StageError
from cadseg.models import weights
from cadseg.storage.local_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cadseg.models.network import Network
    from cadseg.models.training.recipe import TrainConfig

STATE = "state.pt"
BEST = f"best{weights.SUFFIX}"


class Stateful(Protocol):
    """A network, an optimiser: anything with a state dictionary."""

    def state_dict(self) -> Any:
        """The state: tensors and plain values."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Replace the state."""


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        folder: of the run.
        done: steps made before the last checkpoint.
        parts: everything that is saved, by name.
    """

    def __init__(
        self, config: TrainConfig, folder: Path, parts: Mapping[str, Stateful], *, resume: bool
    ) -> None:
        """Begin a run in a new folder, or load the last state of the run in it.

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
        """Write weights, then the state, which replaces the last one atomically.

        Args:
            done: steps made.
            networks: to save, by name.
            best: whether the first of them has the lowest VOI so far.
        """
        write_whole(self.folder / "config.json", self._config.encode())
        for name, network in networks.items():
            weights.save(self.folder / f"{name}-{done:06d}{weights.SUFFIX}", network)
        if best:
            weights.save(self.folder / BEST, next(iter(networks.values())))
        state = {name: part.state_dict() for name, part in self.parts.items()}
        buffer = io.BytesIO()
        torch.save(state | {"step": done, "config": self._config}, buffer)
        write_whole(self.folder / STATE, buffer.getbuffer())
        self.done = done

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn an `OSError` of whatever writes to the folder into one sentence.

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
