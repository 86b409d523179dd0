"""Inference: section pairs of grey values in, affinities out, both uint8.

`Predictor` is what a worker holds: it loads weights once and is then called with batches of tiles.
Input is uint8 ``[B, 2, Y, X]``, lower section first, Y and X multiples of 16; output is uint8
``[B, 3, Y, X]``, channels z, y, x as in `cadseg.models.affinity`, 255 times the affinity, rounded
half to even.

What a sample gives does not depend on the other samples of its batch, and the same bytes come out
every time, on one machine, for one shape of the batch and one number of threads. Pixels within
`cadseg.models.student.HALO` of a tile's border depend on where the border lies.

Axis letters: B pairs, Y X pixels; 2 stands for lower and upper section, 3 for z, y, x.
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cadseg.errors import CadsegError
from cadseg.models import memory, weights
from cadseg.models.affinity import affinities

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.models.student import Student

Uint8 = NDArray[np.uint8]
Precision = Literal["float32", "bfloat16", "float16"]
Network = TypeVar("Network", bound=nn.Module)
Convolution = (nn.Conv2d, nn.Conv3d)
BatchNorm = (nn.BatchNorm2d, nn.BatchNorm3d)


class Predictor:
    """A student, ready to be asked.

    Attributes:
        student: the network, batch norms folded into its convolutions.
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
            path: a weights file.
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
        student = folded(weights.load(path)).to(kind)
        self.student = student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, raw_B2YX: Uint8) -> Uint8:
        """Affinities of section pairs: uint8 [B, 2, Y, X] to uint8 [B, 3, Y, X]."""
        return predict_pairs(self.student, raw_B2YX, precision=self.precision)


@torch.inference_mode()
def predict_pairs(student: Student, raw_B2YX: Uint8, *, precision: Precision = "float32") -> Uint8:
    """Affinities of section pairs: uint8 [B, 2, Y, X] to uint8 [B, 3, Y, X].

    Args:
        student: in evaluation mode, on the device to compute on.
        raw_B2YX: lower section first; Y and X multiples of 16.
        precision: of the network's arithmetic.
    """
    assert not student.training, "batch norm would depend on the batch"
    device = next(student.parameters()).device
    x_B2YX = as_floats(raw_B2YX, device)
    with arithmetic(device, precision):
        lower_BEYX, upper_BEYX = student(x_B2YX.contiguous(memory_format=torch.channels_last))
    return as_bytes(affinities(lower_BEYX, upper_BEYX))


def as_floats(raw: Uint8, device: torch.device) -> Tensor:
    """What networks take: float32, 0..1, on `device`."""
    raw = np.require(raw, requirements=["C", "W"])  # a copy only where torch needs one
    return torch.from_numpy(raw).to(device).float().div_(255)


def arithmetic(device: torch.device, precision: Precision) -> torch.autocast:
    """Networks called with this context compute in `precision`."""
    dtype: torch.dtype = getattr(torch, precision)
    return torch.autocast(device.type, dtype, enabled=precision != "float32")


def as_bytes(affs: Tensor) -> Uint8:
    """Affinities, which are overwritten, times 255 and rounded half to even."""
    result: Uint8 = affs.mul_(255).round_().byte().cpu().numpy()
    return result


def folded(network: Network) -> Network:
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
