"""Run as a program: the memory that each step takes, one process per step, as JSON.

``memory_run.py WARM OUT``: WARM is a small run of which every step is computed once, so that all
code is loaded; OUT is a run whose blocks are computed after that, each step in a child process.
Both are folders with a ``run.json`` and arrays, and nothing computed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cadseg.workers.process import process
from cadseg.workers.stages import steps_of
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from cadseg.workers.step import Step


def peak() -> int:
    """Largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compute(out: Path, step: Step) -> None:
    """All blocks of a step."""
    store = Store.open(out)
    for cell in store.grid.cells(step.level):
        process(store, step, cell)


def in_child(out: Path, step: Step) -> tuple[int, int]:
    """Peak of a fresh copy of this process before and after all blocks of a step."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        idle = peak()
        compute(out, step)
        os.write(writer, json.dumps([idle, peak()]).encode())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"{step.name} failed"
    idle, most = json.loads(os.read(reader, 1000))
    return idle, most


def main() -> None:
    """Print {step: [idle, peak]} in bytes."""
    warm, out = Path(sys.argv[1]), Path(sys.argv[2])
    for step in steps_of(Store.open(warm)):
        compute(warm, step)
    print(json.dumps({step.name: in_child(out, step) for step in steps_of(Store.open(out))}))


if __name__ == "__main__":
    main()
