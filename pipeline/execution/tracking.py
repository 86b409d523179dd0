"""What daisy keeps on disk of a run: which blocks it saw done, and what each of them cost.

It is ours to throw away. Whether a block is done is said by its record alone, and daisy is told so.
"""

from __future__ import annotations

import shutil
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.arrays import Bytes
    from cadseg.storage.files import Files
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store


def base_of(files: Files, given: Path | None) -> Path:
    """The folder for a run; runs may share the folder that is `given`."""
    if given is None:
        return files.local("tracking")
    return given.absolute() / f"cadseg-{zlib.crc32(files.url.encode()):08x}"


def folder_of(base: Path, store: Store, step: Step, done: Bytes) -> Path:
    """Daisy's folder for `step`; emptied where it says of blocks that they are done which are not.

    daisy itself keeps track of rois only: the identity of the stage is in the folder's name.
    """
    of = (store.identity(step.stage), store.grid, step.level, step.halo)
    folder = base / step.name / f"{zlib.crc32(repr(of).encode()):08x}"
    known = folder / "done" / "c" / "0" / "0" / "0"  # daisy writes one chunk, one byte per block
    if known.exists():
        theirs = np.fromfile(known, np.uint8)
        if theirs.size != done.size or (theirs > done.ravel()).any():
            shutil.rmtree(folder)
    for other in folder.parent.glob("*"):
        if other != folder:
            shutil.rmtree(other)
    return folder
