"""Several processes that train one network, each on its share of every batch.

``torchrun`` starts them and tells each its place in environment variables. Gradients are averaged
by PyTorch's DistributedDataParallel; batch norm takes its statistics from the process' own crops,
and those of the first process are kept.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from cadseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@dataclass(frozen=True)
class Share:
    """The place of this process among those that train together.

    Attributes:
        rank: from 0.
        processes: how many there are.
        device: where this one computes.
    """

    rank: int
    processes: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def joined(self, network: nn.Module) -> nn.Module:
        """The network, its gradients averaged over all processes."""
        return network if self.processes == 1 else DistributedDataParallel(network)


@contextlib.contextmanager
def share(device: str, batch: int) -> Iterator[Share]:
    """Take this process' place for as long as the context lasts.

    Args:
        device: ``cpu`` or ``cuda``, a GPU per process.
        batch: crops per step, of all processes together.

    Raises:
        ConfigError: there is no such device, or the batch cannot be shared evenly.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if batch % processes:
        raise ConfigError(
            f"batch is {batch}, which {processes} processes cannot share evenly; "
            f"accepted are multiples of {processes}"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but PyTorch finds no GPU here; accepted is cpu")
    torch.backends.cudnn.benchmark = True  # crops have one shape
    if processes == 1:
        yield Share(0, 1, torch.device(device))
        return
    place = torch.device(device, int(os.environ["LOCAL_RANK"])) if device == "cuda" else None
    if place is not None:
        torch.cuda.set_device(place)
    distributed.init_process_group("gloo" if place is None else "nccl")
    try:
        yield Share(distributed.get_rank(), processes, place or torch.device("cpu"))
    finally:
        distributed.destroy_process_group()
