"""What a benchmark is asked for, and where its answers go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from beside import volumes

if TYPE_CHECKING:
    from pathlib import Path

    from beside.report import Table
    from cadseg.blocks import Zyx


@dataclass(frozen=True)
class Bench:
    """What is asked for, and where the answers go.

    Attributes:
        table: of all answers.
        scratch: what is made once.
        folder: for runs; goes at the end.
        crop: the part of SNEMI3D to be compared on.
        sizes: volumes to scale over.
    """

    table: Table
    scratch: Path
    folder: Path
    crop: Zyx
    sizes: tuple[Zyx, ...]

    @property
    def affinities(self) -> Path:
        """Those that all are compared on."""
        return volumes.affinities(self.scratch, self.crop)

    @property
    def block(self) -> Zyx:
        """A quarter of a section, for two workers."""
        z, y, x = self.crop
        return z, y // 2, x // 2
