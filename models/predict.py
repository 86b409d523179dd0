"""Inference: windows of grey values in, affinities out, both uint8.

`Predictor` is what a worker holds: it loads a network once and is then called with windows. Input
is uint8 ``[D, Y, X]``, as the network's `cadseg.models.network.Needs` say; output is uint8
``[3, D, Y, X]``, channels z, y, x as in `cadseg.models.affinity`, 255 times the affinity, rounded
half to even; its sections are those of `cadseg.models.network.Network.affinities`.

The same bytes come out every time, on one machine, for one shape of the window and one number of
threads. Voxels within the network's context of a window's border depend on where the border lies.

Axis letters: D sections, Y X pixels; 3 stands for z, y, x.
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cadseg.errors import CadsegError
from cadseg.models import memory, weights
from cadseg.models.network import Network, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.arrays import Bytes

N = TypeVar("N", bound=Network)
Convolution = (nn.Conv2d, nn.Conv3d)
BatchNorm = (nn.BatchNorm2d, nn.BatchNorm3d)


class Predictor:
    """A network, ready to be asked.

    Attributes:
        network: batch norms folded into its convolutions.
        precision: of the network's arithmetic; affinities are float32 before they are rounded.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        threads: int = 1,
        precision: Precision = "float32",
    ) -> None:
        """Load weights and choose where and how to compute.

        Args:
            path: a file of weights, of any kind of network.
            device: ``cpu``, ``cuda``, or ``auto``, which takes a GPU where there is one.
            threads: CPU threads, of the whole process.
            precision: float16 on a GPU only; bfloat16 is fast on CPUs that have AVX-512 BF16.

        Raises:
            CadsegError: no such device, or a precision that it does not take.
        """
        kind = device_kind(device)
        if precision == "float16" and kind == "cpu":
            raise CadsegError("precision float16 on the cpu; accepted are float32 and bfloat16")
        memory.keep_freed()
        torch.set_num_threads(threads)
        self.precision = precision
        self.network = ready(weights.load(path), kind)

    def __call__(self, raw_DYX: Bytes) -> Bytes:
        """Affinities uint8 [3, D, Y, X] of a window uint8 [D, Y, X]."""
        return predicted(self.network, raw_DYX, self.precision)


@torch.inference_mode()
def predicted(network: Network, raw_DYX: Bytes, precision: Precision = "float32") -> Bytes:
    """Affinities uint8 [3, D, Y, X] of a window uint8 [D, Y, X].

    Args:
        network: in evaluation mode, on the device to compute on.
        raw_DYX: as the network needs it.
        precision: of the network's arithmetic.
    """
    assert not network.training, "batch norm would depend on the window"
    device = next(itertools.chain(network.parameters(), network.buffers())).device
    with arithmetic(device, precision):
        affs_3DYX = network.affinities(as_floats(raw_DYX, device))
    return as_bytes(affs_3DYX)


def as_floats(raw: Bytes, device: torch.device) -> Tensor:
    """What networks take: float32, 0..1, on `device`."""
    raw = np.require(raw, requirements=["C", "W"])  # a copy only where torch needs one
    return torch.from_numpy(raw).to(device).float().div_(255)


def arithmetic(device: torch.device, precision: Precision) -> torch.autocast:
    """Networks called with this context compute in `precision`."""
    dtype: torch.dtype = getattr(torch, precision)
    return torch.autocast(device.type, dtype, enabled=precision != "float32")


def as_bytes(affs: Tensor) -> Bytes:
    """Affinities, which are overwritten, times 255 and rounded half to even."""
    result: Bytes = affs.mul_(255).round_().byte().cpu().numpy()
    return result


def ready(network: N, device: torch.device | str) -> N:
    """A copy of a network that is fast at inference, on `device`."""
    copied = folded(network).to(device)
    return copied.to(memory_format=network.layout)  # type: ignore[call-overload,no-any-return]


def folded(network: N) -> N:
    """A copy for inference that computes the same with fewer batch norm layers, if any.

    In evaluation mode batch norm is a scale and a shift per channel, which the convolution right
    before it can do as well.
    """
    copied = copy.deepcopy(network).eval()
    for block in [module for module in copied.modules() if isinstance(module, nn.Sequential)]:
        for i, (first, second) in enumerate(itertools.pairwise(list(block))):
            if isinstance(first, Convolution) and isinstance(second, BatchNorm):
                block[i], block[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return copied


def device_kind(name: str) -> str:
    """``cpu`` or ``cuda``, whichever `name` stands for here; ``auto`` takes a GPU if there is one.

    Raises:
        CadsegError: no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise CadsegError(f"device {name}; accepted are auto, cpu and cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise CadsegError("device cuda, but PyTorch finds no GPU here; accepted are auto and cpu")
    return name
