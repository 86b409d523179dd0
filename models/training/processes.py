"""Data-parallel training: several processes train one network, each on a part of every batch.

``torchrun`` starts them and sets the environment variables that PyTorch reads. Gradients are
averaged by DistributedDataParallel. Batch normalisation uses the statistics of each process' own
crops; the running statistics that are saved are those of rank 0.
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
class Process:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        world_size: number of processes.
        device: on which it computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this process writes files and prints: rank 0 does."""
        return self.rank == 0

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network, with gradients averaged over all processes."""
        return network if self.world_size == 1 else DistributedDataParallel(network)


@contextlib.contextmanager
def process_group(device: str, batch: int) -> Iterator[Process]:
    """Join the process group that torchrun started, if it did, and leave it at the end.

    Args:
        device: ``cpu``, or ``cuda``: one GPU per process.
        batch: crops per step, of all processes together.

    Raises:
        ConfigError: there is no such device, or the batch cannot be divided evenly.
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
        yield Process(0, 1, torch.device(device))
        return
    gpu = torch.device(device, int(os.environ["LOCAL_RANK"])) if device == "cuda" else None
    if gpu is not None:
        torch.cuda.set_device(gpu)
    distributed.init_process_group("gloo" if gpu is None else "nccl")
    try:
        yield Process(distributed.get_rank(), processes, gpu or torch.device("cpu"))
    finally:
        distributed.destroy_process_group()
