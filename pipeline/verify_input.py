"""``--verify-input``: the hash of all voxels of what a run reads, with a bar on a terminal.

A run keeps the hashes in its manifest, beside the identity of the stage that reads the voxels: who
asks for them again compares, who does not ask goes by the fingerprint.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from cadseg.storage.fingerprint import content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cadseg.storage.volume import Volume


def contents(volumes: Mapping[str, Volume]) -> dict[str, str]:
    """Hashes of all voxels of some volumes, each by its name."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        found = {}
        for name, volume in volumes.items():
            bar = bars.add_task(f"reading the {name}", total=math.prod(volume.extent))
            found[name] = content(volume, functools.partial(bars.advance, bar))
        return found
