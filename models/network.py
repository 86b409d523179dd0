"""What a network is to a run: grey values of a box in, affinities out, and what it needs for them.

A network is asked for the affinities of a box of the volume, and is shown a *window*: the box with
context around it. Which context, and which windows, its `Needs` say, as plain data. A new network
is a file with such a class and a row in `cadseg.models.weights`.

Axis letters: D sections, Y X pixels of a window; 3 stands for affinities along z, y, x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from cadseg.config import Strict

Span = tuple[int, int]
Precision = Literal["float32", "bfloat16", "float16"]
"""Of a network's arithmetic."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a network must be shown; axes in the order z, y, x.

    Attributes:
        context: voxels below and above one voxel on which its affinities depend; None: the whole
            window, so that they depend on its size. Along z there is always a number.
        multiple: lengths of windows must be multiples of this.
        lengths: of windows that it takes, the least and the most; None: any.
        mirrored: whether the volume is mirrored at its ends, so that windows never end there; else
            they do, and the network pads by itself. Where z is mirrored, affinities are those of
            the sections that have their context in the window, and of no others.
        bytes_per_voxel: memory at work per voxel of affinities, an upper bound.
    """

    context: tuple[Span, Span | None, Span | None]
    multiple: tuple[int, int, int]
    lengths: tuple[Span | None, Span | None, Span | None] = (None, None, None)
    mirrored: tuple[bool, bool, bool]
    bytes_per_voxel: int

    @property
    def sections(self) -> Span:
        """Sections of context below and above, in whole multiples."""
        below, above = (-(-n // self.multiple[0]) * self.multiple[0] for n in self.context[0])
        return below, above


class Network(nn.Module):
    """What predicts.

    Attributes:
        kind: its name in the header of weights files.
        layout: of its convolutions' weights in memory, whichever is fastest.
        config: what rebuilds it, beside its weights.
    """

    kind: ClassVar[str]
    layout: ClassVar[torch.memory_format]
    config: Strict

    @property
    def needs(self) -> Needs:
        """What it must be shown."""
        raise NotImplementedError

    def affinities(self, raw_DYX: Tensor) -> Tensor:
        """Affinities float32 [3, D, Y, X] in 0..1, each to the lower neighbour along z, y, x.

        D is that of the window, without the context where sections are mirrored.

        Args:
            raw_DYX: a window, float32 in 0..1, on the network's device.
        """
        raise NotImplementedError
