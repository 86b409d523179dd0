"""The teacher: a 3D network that sees a crop of many sections and embeds every voxel of it.

Input ``raw_BDYX`` is float in 0..1 (uint8 / 255, no mean or standard deviation); Y and X are
multiples of 16, D is any number of sections. Output is one raw embedding per voxel. Every output
sees 18 sections up and down, and zeros beyond the crop's faces, so in a crop of 18 sections no
voxel is far enough from a face not to see it.

A residual, symmetric U-Net that pools within sections alone, with sums for skip connections: the 3D
teacher of CAD (Liu et al., CVPR 2024, doi:10.1109/CVPR52733.2024.01056), which is the network of
Lee et al. 2017 (arXiv 1706.00120) with embeddings for an output. The only difference is the switch
`align_corners`, which the student has as well: the authors upsample with true.

Axis letters: B crops, D sections, E embedding, C other channels, N = B x D, Y X pixels.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from cadseg.config import Strict
from cadseg.models.affinity import OFFSETS, volume_affinities
from cadseg.models.network import Needs, Network

if TYPE_CHECKING:
    from collections.abc import Callable

MULTIPLE = 16
"""Lengths along y and x must be multiples of this: four poolings by 2."""

CONTEXT = (173, 172)
"""An affinity depends on pixels up to so far below and above it in y and x (align_corners false).

An embedding does on 172 to either side, and an affinity on two neighbouring embeddings.
"""

BYTES_PER_CHANNEL, CHANNELS = 45, 16
"""At work, per voxel and channel of the finest resolution, of which 16 at least are computed.

38 at 12 x 224² and 33 at 18 x 128² with 28 channels.
"""

SECTIONS = (19, 18)
"""The same along z: nine blocks have two convolutions across the sections each."""

Widths = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class TeacherConfig(Strict):
    """Everything that rebuilds the network, beside its weights.

    Attributes:
        widths: channels at each of the five resolutions, finest first.
        embedding: channels of the output.
        align_corners: of the upsampling; see the module's docstring.
        momentum: of the batch norms: how much of their statistics is taken from each batch. The
            authors' 0.001 suits their 200,000 steps; shorter trainings need more.
    """

    widths: Widths = (28, 36, 48, 64, 80)
    embedding: int = Field(default=16, gt=0)
    align_corners: bool = False
    momentum: float = Field(default=0.001, gt=0, le=1)


class Teacher(Network):
    """A crop in, an embedding per voxel out; 1,478,036 parameters at the usual widths."""

    kind = "teacher"
    layout = torch.channels_last_3d
    config: TeacherConfig

    def __init__(self, config: TeacherConfig) -> None:
        """Draw fresh weights (Kaiming normal, from PyTorch's global generator)."""
        super().__init__()
        self.config = config
        widths = config.widths
        first, up = widths[0], list(itertools.pairwise(reversed(widths)))
        self.enter = nn.Sequential(_in_plane(1, first, 5, bias=True), nn.ELU(inplace=True))
        pairs = [(first, first), *itertools.pairwise(widths)]
        self.down = nn.ModuleList(_Residual(inputs, outputs) for inputs, outputs in pairs)
        self.up = nn.ModuleList(_Up(inputs, outputs) for inputs, outputs in up)
        self.leave = nn.Sequential(_in_plane(first, first, 5, bias=True), nn.ELU(inplace=True))
        self.out = nn.Conv3d(first, config.embedding, kernel_size=1)
        self.apply(_initialise)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = config.momentum

    @property
    def needs(self) -> Needs:
        """The sections and the pixels around; beyond the volume's ends it sees its own zeros."""
        around = None if self.config.align_corners else CONTEXT
        return Needs(
            context=(SECTIONS, around, around),
            multiple=(1, MULTIPLE, MULTIPLE),
            mirrored=(False, False, False),
            bytes_per_voxel=BYTES_PER_CHANNEL * max(CHANNELS, self.config.widths[0]),
        )

    def affinities(self, raw_DYX: Tensor) -> Tensor:
        """Affinities [3, D, Y, X] of all voxels of a window."""
        return volume_affinities(self(raw_DYX[None]), OFFSETS[:1])[0].clamp(0, 1)

    def forward(self, raw_BDYX: Tensor) -> Tensor:
        """Embeddings [B, E, D, Y, X], not normalised.

        Args:
            raw_BDYX: float, 0..1; Y and X multiples of 16.
        """
        _check(raw_BDYX)
        x_BCDYX = self.enter(raw_BDYX[:, None])
        skips = []
        for i, block in enumerate(self.down):
            x_BCDYX = block(by_section(_pool, x_BCDYX) if i else x_BCDYX)
            skips.append(x_BCDYX)
        skips.pop()
        for block in self.up:
            x_BCDYX = block(by_section(self._double, x_BCDYX), skips.pop())
        out_BEDYX: Tensor = self.out(self.leave(x_BCDYX))
        return out_BEDYX

    def _double(self, x_NCYX: Tensor) -> Tensor:
        return F.interpolate(
            x_NCYX, scale_factor=2, mode="bilinear", align_corners=self.config.align_corners
        )


class _Residual(nn.Module):
    """A convolution within the sections, and two across them whose result is added to its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_in_plane(inputs, outputs, 3), *_norm_elu(outputs))
        self.second = nn.Sequential(_across(outputs), *_norm_elu(outputs), _across(outputs))
        self.last = nn.Sequential(*_norm_elu(outputs))

    def forward(self, x_BCDYX: Tensor) -> Tensor:
        x_BCDYX = self.first(x_BCDYX)
        out_BCDYX: Tensor = self.last(self.second(x_BCDYX).add_(x_BCDYX))
        return out_BCDYX


class _Up(nn.Module):
    """One step of the decoder: as wide as the skip connection, added to it, looked at again."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.narrow = nn.Conv3d(inputs, outputs, kernel_size=1)
        self.joined = nn.Sequential(*_norm_elu(outputs), _Residual(outputs, outputs))

    def forward(self, x_BCDYX: Tensor, skip_BCDYX: Tensor) -> Tensor:
        out_BCDYX: Tensor = self.joined(self.narrow(x_BCDYX).add_(skip_BCDYX))
        return out_BCDYX


def _in_plane(inputs: int, outputs: int, width: int, *, bias: bool = False) -> nn.Conv3d:
    padding = (0, width // 2, width // 2)
    return nn.Conv3d(inputs, outputs, (1, width, width), padding=padding, bias=bias)


def _across(channels: int) -> nn.Conv3d:
    return nn.Conv3d(channels, channels, kernel_size=3, padding=1, bias=False)


def _norm_elu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm3d(channels), nn.ELU(inplace=True)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _pool(x_NCYX: Tensor) -> Tensor:
    return F.max_pool2d(x_NCYX, 2)


def by_section(change: Callable[[Tensor], Tensor], x_BCDYX: Tensor) -> Tensor:
    """`change` each section alone; copies nothing if the channels are last in memory."""
    batch, _, sections, _, _ = x_BCDYX.shape
    x_NCYX = change(x_BCDYX.transpose(1, 2).flatten(0, 1))
    return x_NCYX.view(batch, sections, *x_NCYX.shape[1:]).transpose(1, 2)


def _check(raw_BDYX: Tensor) -> None:
    """Callers cut crops; a wrong shape is a mistake of ours, not of the user's."""
    _, sections, height, width = raw_BDYX.shape
    if not sections or height % MULTIPLE or width % MULTIPLE or not height or not width:
        raise ValueError(
            f"the teacher got {tuple(raw_BDYX.shape)}; accepted is [B, D, Y, X] "
            f"with Y and X multiples of {MULTIPLE}"
        )
