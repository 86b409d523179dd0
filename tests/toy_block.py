"""A stage for tests of the schedule: a block writes one small file, and misbehaves if asked to.

``toy.json`` in the run's folder says how: ``sleep`` seconds per block, ``fail`` = the share of
attempts that raise, ``always`` = steps whose blocks raise always, ``hang``, ``kill``, ``crash`` =
cells whose first attempt does so. Every attempt appends a line to ``toy.log``: step, cell, when it
began and ended, process, and how it went.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cadseg.blocks import Block
    from cadseg.workers.store import Store


def run(block: Block, store: Store) -> dict[str, int]:
    """Write the block's voxel count to a file."""
    path = store.out / "toy.json"
    ways: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    number = _attempts(store, block)
    begun = time.monotonic()
    try:
        _misbehave(ways, block, number)
        time.sleep(ways.get("sleep", 0))
        folder = store.out / f"toy-{block.level}"
        folder.mkdir(exist_ok=True)
        (folder / block.key).write_text(f"{block.write.size}\n")
    except BaseException:
        _log(store, block, begun, "failed")
        raise
    _log(store, block, begun, "done")
    return {"voxels": block.write.size}


def _attempts(store: Store, block: Block) -> int:
    # one byte per attempt, for a count that survives the process
    folder = store.out / "toy-attempts"
    folder.mkdir(exist_ok=True)
    with (folder / f"{block.level}-{block.key}").open("ab") as file:
        file.write(b".")
        return file.tell()


def _misbehave(ways: dict[str, Any], block: Block, number: int) -> None:
    name = f"{block.level}-{block.key}"
    if random.Random(f"{name} {number}").random() < ways.get("fail", 0):
        raise OSError(5, "the disk had a moment", name)
    if block.level in ways.get("always", ()) or name in ways.get("bad", ()):
        raise ValueError(f"block {name} is beyond help")
    if number > 1:
        return
    if name in ways.get("hang", ()):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        time.sleep(1000)
    if name in ways.get("kill", ()):
        os.kill(os.getpid(), signal.SIGKILL)
    if name in ways.get("crash", ()):
        os.abort()


def _log(store: Store, block: Block, begun: float, how: str) -> None:
    line = f"{block.level} {block.key} {begun:.4f} {time.monotonic():.4f} {os.getpid()} {how}\n"
    with (store.out / "toy.log").open("a") as file:
        file.write(line)
