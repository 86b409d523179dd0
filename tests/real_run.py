"""Runs on tiny volumes: by the command line in this process or its own, and what a run leaves."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import zarr
from scipy import ndimage

from cadseg.models import weights
from cadseg.models.student import Student, StudentConfig
from cadseg.models.teacher import Teacher, TeacherConfig
from cadseg.pipeline import cli, run
from cadseg.pipeline.execution.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]

ROOT = Path(__file__).resolve().parents[1]
DATA = ("affinities", "basins", "fragments", "graph", "segmentation", "segments", "tables")
VOXEL_SIZE = (30.0, 6.0, 6.0)
# cells of a few voxels, and a halo that leaves some blocks unaware of others
SMALL = (
    "--set=fragments.distance_clip=2",
    "--set=fragments.sigma=0.3",
    "--set=segment.pyramid_levels=1",
    "--set=agglomerate.percolation_share=1",
)

SETS = ["block_shape=[3, 21, 24]", *(word.removeprefix("--set=") for word in SMALL)]
HERE = run.Execution(serial=True, progress=Progress(quiet=True))


def segment(affs: Path, out: Path, *more: str, **request: object) -> run.Report:
    """A run in this process, in small blocks."""
    return run.segment(str(affs), HERE, out=out, overrides=[*SETS, *more], **request)


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def cadseg(*words: object) -> Said:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["cadseg", *map(str, words)]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = argv
    assert isinstance(code, int)
    return Said(code, out.getvalue(), err.getvalue())


def start(
    *words: object, before: Callable[[], None] | None = None, **more: Any
) -> subprocess.Popen[str]:
    """Run the command line in a process of its own, which hears signals; begins with `before`."""

    def prepared() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests may run where it is ignored
        if before is not None:
            before()

    return subprocess.Popen(
        [Path(sys.executable).with_name("cadseg"), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=prepared,
        **more,
    )


def affinities(shape: tuple[int, int, int] = (6, 42, 48), seed: int = 0) -> Array:
    """Smooth noise [3, z, y, x] in which every byte is equally frequent."""
    noise = np.random.default_rng(seed).random((3, *shape))
    noise = ndimage.gaussian_filter(noise, (0, 0.3, 1.2, 1.2))
    ranks = noise.ravel().argsort().argsort().reshape(noise.shape)
    return (ranks * 256 // noise.size).astype(np.uint8)


def volume(
    path: Path, data: Array, *, chunks: tuple[int, ...] | None = None, **metadata: Any
) -> Path:
    """A Zarr array with a voxel size at `path`."""
    attributes = {"voxel_size": list(VOXEL_SIZE)} | metadata.pop("attributes", {})
    zarr.create_array(
        str(path), data=data, chunks=chunks or data.shape, attributes=attributes, **metadata
    )
    return path


def student(path: Path, raw: Array) -> Path:
    """A small student at `path`, with random weights, whose answers use the whole range."""
    torch.manual_seed(0)
    made = Student(StudentConfig(filters=4, embedding=4)).train()
    pairs = torch.from_numpy(np.stack([raw[:2], raw[8:10]])).float() / 255
    with torch.no_grad():
        for name, values in made.named_parameters():
            if values.ndim == 4:
                torch.nn.init.kaiming_normal_(values)
            if name.endswith("out.bias"):
                values.zero_()
        for _ in range(20):  # batch norms learn what they will see
            made(pairs[..., :96, :96])
    weights.save(path, made.eval())
    return path


def teacher(path: Path, raw: Array) -> Path:
    """A small teacher at `path`, with random weights, whose answers use the whole range."""
    torch.manual_seed(0)
    config = TeacherConfig(widths=(2, 3, 4, 5, 6), embedding=4, momentum=0.1)
    made = Teacher(config).train()
    crop = torch.from_numpy(raw[None, :8, :96, :96].copy()).float() / 255
    with torch.no_grad():
        for _ in range(20):  # batch norms learn what they will see
            made(crop)
    weights.save(path, made.eval())
    return path


def contents(out: str | Path) -> dict[str, object]:
    """All that a run has made: files by name, records without the time that they took."""
    out = Path(out)
    found: dict[str, object] = {}
    for name in DATA:
        for path in sorted((out / name).rglob("*")):
            if path.is_file() and not path.name.endswith(".part"):
                found[str(path.relative_to(out))] = path.read_bytes()
    for path in (out / "records").rglob("[!.]*.json"):
        record = json.loads(path.read_text().partition("\n")[0])
        del record["seconds"]
        found[str(path.relative_to(out))] = record
    return found


def differing(out: str | Path, other: str | Path) -> list[str]:
    """Names of what differs between two runs."""
    one, two = contents(out), contents(other)
    return sorted(name for name in {*one, *two} if one.get(name) != two.get(name))


def records(out: Path) -> int:
    """Blocks that are done, of all steps."""
    return sum(1 for _ in (out / "records").rglob("[!.]*.json"))


def times(out: str | Path) -> dict[str, int]:
    """When each record was written."""
    out = Path(out)
    paths = (out / "records").rglob("*.json")
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in paths}
