"""The others' programs as commands: waterz in our environment, volara in one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from beside.ours import Cost, timed

if TYPE_CHECKING:
    from cadseg.blocks import Zyx

HERE = Path(__file__).resolve().parent

VOLARA = ("volara==1.0.5", "daisy==1.2.3", "mwatershed==0.5.4", "funlib.persistence==0.7.0")
"""What decides its speed; volara needs daisy 1, we need daisy 2."""


def waterz(affinities: Path, out: Path, scoring: str) -> Cost:
    """Cost of the CAD paper's recipe."""
    return timed([sys.executable, HERE / "waterz_peer.py", affinities, out, scoring])


def volara(scratch: Path, affinities: Path, out: Path, block: Zyx) -> Cost:
    """Cost of volara with two workers; seconds on the clock without its imports."""
    cost = timed([_volara(scratch), HERE / "volara_peer.py", affinities, out, *map(str, block)])
    return Cost(float((out / "seconds").read_text()), cost.cores)


def _volara(scratch: Path) -> Path:
    """The Python of volara's environment, which is made where it is not there yet."""
    folder = scratch / "volara"
    python, versions = folder / "bin" / "python", folder / "versions.txt"
    wanted = "\n".join(VOLARA)
    if not versions.exists() or versions.read_text() != wanted:
        print("installing volara", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "virtualenv", "--quiet", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *VOLARA], check=True)
        versions.write_text(wanted)
    return python
