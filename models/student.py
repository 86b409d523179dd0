"""The student: a small 2D network that sees two neighbouring sections and embeds both.

Input ``x_B2YX`` is float32 in 0..1 (uint8 / 255, no mean or standard deviation): channel 0 is the
*lower* section z - 1, channel 1 the *upper* section z. Y and X are multiples of 16. Output is one
raw embedding per pixel of each section; `cadseg.models.affinity` makes affinities of them. The
volume's first section has none below it and is paired with the one above. (Students have not
learned pairs of equal sections: with its first section paired with itself, VOI of 8 sections of
SNEMI3D was 0.04 to 0.1 bits higher than with a true pair.)

The network is shaped like a Y: a stem that both sections pass through with the same weights, one
trunk that sees both, and one head per section. Architecture: the 2D student of CAD (Liu et al.,
CVPR 2024, doi:10.1109/CVPR52733.2024.01056). The only difference is the switch `align_corners`:
the authors upsample with true, which makes a value depend on the size of the tile that it was
computed in; with false a value depends on the `CONTEXT` around it and on nothing else.

Axis letters: B pairs or crops, D sections of a crop, P = D - 1 pairs of neighbours in it, N all
sections or all pairs of a batch, E embedding, C other channels, Y X pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from cadseg.config import Strict
from cadseg.models.affinity import affinities
from cadseg.models.network import Needs, Network

MULTIPLE = 16
"""Lengths along y and x must be multiples of this: four poolings by 2."""

CONTEXT = (123, 122)
"""An affinity depends on pixels up to so far below and above it in y and x (align_corners false).

An embedding does on 122 to either side, and an affinity on two neighbouring embeddings.
"""

BYTES_PER_PIXEL = 1200
"""At work, per pixel of a pair: 1105 at 256², 950 at 512², 891 at 768²."""


class StudentConfig(Strict):
    """Everything that rebuilds the network, beside its weights.

    Attributes:
        filters: channels of the stem; all other widths are multiples of it.
        embedding: channels of the output.
        align_corners: of the bilinear upsampling; see the module's docstring.
    """

    filters: int = Field(default=16, gt=0)
    embedding: int = Field(default=16, gt=0)
    align_corners: bool = False


class Student(Network):
    """Two sections in, two embeddings out; 900,816 parameters at 16 filters."""

    kind = "student"
    layout = torch.channels_last
    config: StudentConfig

    def __init__(self, config: StudentConfig) -> None:
        """Draw fresh weights (PyTorch's defaults, from its global generator)."""
        super().__init__()
        self.config = config
        f = config.filters
        self.stem = _double_conv(1, f)
        self.down0 = _double_conv(f, 2 * f)
        self.down1 = _double_conv(4 * f, 4 * f)
        self.down2 = _double_conv(4 * f, 8 * f)
        self.down3 = _double_conv(8 * f, 8 * f)
        self.up1 = _double_conv(16 * f, 4 * f)
        self.up2 = _double_conv(8 * f, 2 * f)
        self.lower = _Head(f, config.embedding)
        self.upper = _Head(f, config.embedding)

    @property
    def needs(self) -> Needs:
        """One section below, and the pixels around; first sections are paired by mirroring."""
        around = None if self.config.align_corners else CONTEXT
        return Needs(
            context=((1, 0), around, around),
            multiple=(1, MULTIPLE, MULTIPLE),
            mirrored=(True, False, False),
            bytes_per_voxel=BYTES_PER_PIXEL,
        )

    def affinities(self, raw_DYX: Tensor) -> Tensor:
        """Affinities [3, P, Y, X] of all pairs of neighbouring sections of a window."""
        raw_1DYX = raw_DYX[None].contiguous(memory_format=torch.channels_last)
        lower_PEYX, upper_PEYX = self._pairs(raw_1DYX)
        return affinities(lower_PEYX, upper_PEYX).transpose(0, 1)

    def forward(self, x_B2YX: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of the lower and the upper section, each [B, E, Y, X], not normalised.

        Args:
            x_B2YX: float, 0..1; lower section first; Y and X multiples of 16.
        """
        _check(x_B2YX, x_B2YX.shape[1] == 2, "[B, 2, Y, X]")
        return self._pairs(x_B2YX)

    def sections(self, raw_BDYX: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` gives for all pairs of neighbouring sections, [B, P, E, Y, X] each.

        What is of one section alone is computed once, though two pairs hold it. (In training mode,
        batch norm sees all sections and all pairs at once.)

        Args:
            raw_BDYX: float, 0..1; two sections or more, from the lowest on; P = D - 1.
        """
        batch, sections, _, _ = raw_BDYX.shape
        _check(raw_BDYX, sections > 1, "[B, D, Y, X] with D of 2 or more")
        lower, upper = (
            embedded.view(sections - 1, batch, *embedded.shape[1:]).transpose(0, 1)
            for embedded in self._pairs(raw_BDYX)
        )
        return lower, upper

    def _pairs(self, raw_BDYX: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of the lower and the upper sections, [N, E, Y, X] each.

        N counts the pairs, the first pair of every sample first: so the lower and the upper
        sections are slices, and nothing is copied, nor loses its layout in memory.
        """
        batch = raw_BDYX.shape[0]
        full_NCYX = self.stem(torch.cat(raw_BDYX.unsqueeze(2).unbind(1)))
        half_NCYX = self.down0(_pool(full_NCYX))
        lower_full, upper_full = _Neighbours.apply(full_NCYX, batch)  # type: ignore[no-untyped-call]
        lower_half, upper_half = _Neighbours.apply(half_NCYX, batch)  # type: ignore[no-untyped-call]

        half_NCYX = torch.cat([lower_half, upper_half], dim=1)
        quarter_NCYX = self.down1(_pool(half_NCYX))
        eighth_NCYX = self.down2(_pool(quarter_NCYX))
        x_NCYX = self.down3(_pool(eighth_NCYX))
        x_NCYX = self.up1(torch.cat([eighth_NCYX, self._up(x_NCYX)], dim=1))
        x_NCYX = self.up2(torch.cat([quarter_NCYX, self._up(x_NCYX)], dim=1))

        x_NCYX = self._up(x_NCYX)
        return (
            self._head(self.lower, x_NCYX, lower_half, lower_full),
            self._head(self.upper, x_NCYX, upper_half, upper_full),
        )

    def _head(self, head: _Head, x_NCYX: Tensor, half_NCYX: Tensor, full_NCYX: Tensor) -> Tensor:
        x_NCYX = head.up3(torch.cat([half_NCYX, x_NCYX], dim=1))
        x_NCYX = head.up4(torch.cat([full_NCYX, self._up(x_NCYX)], dim=1))
        out_NEYX: Tensor = head.out(x_NCYX)
        return out_NEYX

    def _up(self, x_NCYX: Tensor) -> Tensor:
        doubled_NCYX: Tensor = _Dense.apply(  # type: ignore[no-untyped-call]
            F.interpolate(
                x_NCYX, scale_factor=2, mode="bilinear", align_corners=self.config.align_corners
            )
        )
        return doubled_NCYX


class _Head(nn.Module):
    """The part of the decoder that belongs to one section; `Student` runs it."""

    def __init__(self, filters: int, embedding: int) -> None:
        super().__init__()
        self.up3 = _double_conv(4 * filters, filters)
        self.up4 = _double_conv(2 * filters, 2 * filters)
        self.out = nn.Conv2d(2 * filters, embedding, kernel_size=1)


class _Neighbours(torch.autograd.Function):
    """Without the last and without the first sections; gradients keep their layout in memory.

    Those of ordinary slices lose it; on a CPU, the ReLU before them then takes many times as long.
    """

    @staticmethod
    def forward(ctx: Any, x_NCYX: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        ctx.batch = batch
        ctx.save_for_backward(x_NCYX)
        return x_NCYX[:-batch], x_NCYX[batch:]

    @staticmethod
    def backward(ctx: Any, lower_NCYX: Tensor, upper_NCYX: Tensor) -> tuple[Tensor, None]:
        grad_NCYX = torch.empty_like(*ctx.saved_tensors)
        grad_NCYX[: -ctx.batch] = lower_NCYX
        grad_NCYX[-ctx.batch :] = 0
        grad_NCYX[ctx.batch :] += upper_NCYX
        return grad_NCYX, None


class _Dense(torch.autograd.Function):
    """The identity, whose gradient is copied, so that it is dense in memory.

    That of a concatenation is a view with gaps between the pixels, with which the gradient of the
    upsampling takes six times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x_NCYX: Tensor) -> Tensor:
        return x_NCYX.view_as(x_NCYX)

    @staticmethod
    def backward(ctx: Any, grad_NCYX: Tensor) -> Tensor:
        return grad_NCYX.clone()


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, kernel_size=3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _pool(x_NCYX: Tensor) -> Tensor:
    return F.max_pool2d(x_NCYX, 2)


def _check(raw_BDYX: Tensor, deep_enough: bool, accepted: str) -> None:
    """Callers cut tiles; a wrong shape is a mistake of ours, not of the user's."""
    height, width = raw_BDYX.shape[2:]
    if not deep_enough or height % MULTIPLE or width % MULTIPLE or not height or not width:
        raise ValueError(
            f"the student got {tuple(raw_BDYX.shape)}; accepted is {accepted}, "
            f"with Y and X multiples of {MULTIPLE}"
        )
