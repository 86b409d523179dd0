"""A run folder for tests of the schedule, and the run in a process of its own.

``python toy_run.py OUT STEPS WORKERS``: `run_steps` there; exit code 130 where it is stopped.
"""

from __future__ import annotations

import json
import pickle
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from in_memory import of_affinities

from cadseg.blocks import Roi, zyx
from cadseg.pipeline.execution.progress import Progress
from cadseg.pipeline.execution.schedule import run_steps
from cadseg.storage.files import LocalFiles
from cadseg.workers import manifest
from cadseg.workers.manifest import Origin
from cadseg.workers.process import Step

if TYPE_CHECKING:
    from collections.abc import Sequence


def folder(
    out: Path,
    *,
    shape: tuple[int, int, int] = (20, 20, 20),
    roi: Sequence[Sequence[int]] | None = None,
    block: tuple[int, int, int] = (10, 10, 10),
    stages: tuple[str, ...] = ("toy",),
    **ways: object,
) -> Path:
    """A run folder in `out`, with blocks of `block` voxels, that behaves in these `ways`."""
    out.mkdir(parents=True, exist_ok=True)
    sets = [f"block_shape={list(block)}"]
    begin, end = zip(*(roi or ((0, n) for n in shape)), strict=True)
    domain = Roi(zyx(begin), zyx(end))
    made = of_affinities(shape, domain, sets)
    origins = {stage: Origin(identity="abc", inputs={}) for stage in stages}
    made = made.model_copy(update={"stages": origins})
    manifest.write(LocalFiles(out), made)
    behave(out, **ways)
    return out


def behave(out: Path, **ways: object) -> None:
    """From now on, blocks behave in these `ways`."""
    (out / "toy.json").write_text(json.dumps(ways))


def step(name: str, *after: str, level: int = 0, halo: tuple[int, int, int] = (0, 0, 0)) -> Step:
    """A toy step, `a` to `e`."""
    return Step(name, "toy", f"toy_{name}", level=level, halo=halo, after=after)


def main() -> None:
    """Run pickled steps."""
    out, steps, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run in background
    try:
        run_steps(out, pickle.loads(steps.read_bytes()), workers=workers, show=Progress(quiet=True))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
