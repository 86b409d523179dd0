"""A stage for tests of execution: a block writes one small file, and misbehaves if asked to.

``toy.json`` in the run's folder says how: ``sleep`` seconds per block; ``fail`` and ``die``, the
shares of attempts that raise or kill their process; ``always``, steps whose blocks always raise;
``bad`` and ``killer``, blocks that always raise or kill; ``hang``, ``kill`` and ``crash``, blocks
whose first attempt does so; ``seed``, of the random ones. Every attempt appends a line to
``toy.log``: step, cell, when it began and ended, process, and how it went.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

from cadseg.blocks import cell_name
from cadseg.workers.step import Cost

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(step: str, block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the block's voxel count to a file."""
    path = store.files.local("toy.json")
    ways: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    name = f"{step}-{cell_name(block.cell)}"
    number = _attempts(store, name)
    begun = time.monotonic()
    try:
        time.sleep(ways.get("sleep", 0))
        _misbehave(ways, name, number)
        folder = store.files.local(f"toy-{step}")
        folder.mkdir(exist_ok=True)
        (folder / cell_name(block.cell)).write_text(f"{block.write.size}\n")
    except BaseException:
        _log(store, name, begun, "failed")
        raise
    _log(store, name, begun, "done")
    return {"voxels": block.write.size}


def cost(work: Work) -> Cost:
    """Next to nothing."""
    return Cost(memory=work.blocks)


def _attempts(store: Store, name: str) -> int:
    # one byte per attempt, for a count that survives the process
    folder = store.files.local("toy-attempts")
    folder.mkdir(exist_ok=True)
    with (folder / name).open("ab") as file:
        file.write(b".")
        return file.tell()


def _misbehave(ways: dict[str, Any], name: str, number: int) -> None:
    chance = random.Random(f"{ways.get('seed', 0)} {name} {number}").random()
    if chance < ways.get("fail", 0):
        raise OSError(5, "the disk had a moment", name)
    if name[0] in ways.get("always", ()) or name in ways.get("bad", ()):
        raise ValueError(f"block {name} is beyond help")
    if chance < ways.get("die", 0) or name in ways.get("killer", ()):
        os.kill(os.getpid(), signal.SIGKILL)
    if number > 1:
        return
    if name in ways.get("hang", ()):
        ctypes.PyDLL(None).sleep(1000)  # with the interpreter's lock, as a bad C library does
    if name in ways.get("kill", ()):
        os.kill(os.getpid(), signal.SIGKILL)
    if name in ways.get("crash", ()):
        os.abort()


def _log(store: Store, name: str, begun: float, how: str) -> None:
    step, key = name.split("-")
    line = f"{step} {key} {begun:.4f} {time.monotonic():.4f} {os.getpid()} {how}\n"
    with store.files.local("toy.log").open("a") as file:
        file.write(line)
