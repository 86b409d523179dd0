"""What a user can get wrong: one sentence on standard error, and nothing is written.

Exit code 2 before work starts, 1 where it shows only later.
"""

from __future__ import annotations

import os
import pickle
import re
import resource
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import real_run as real
import torch
import zarr
from safetensors.torch import save_file

from cadseg.models import weights
from cadseg.models.student import Student, StudentConfig
from cadseg.models.teacher import Teacher, TeacherConfig

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

BLOCKS = "--set=block_shape=[3, 21, 24]"
RAW = np.random.default_rng(0).integers(0, 256, (3, 20, 24), np.uint8)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad inputs."""
    folder = tmp_path_factory.mktemp("inputs")
    real.volume(folder / "raw.zarr", RAW)
    real.volume(folder / "uint16.zarr", RAW.astype(np.uint16))
    real.volume(folder / "float.zarr", RAW.astype(np.float32))
    real.volume(folder / "flat.zarr", RAW[0])
    real.volume(folder / "nothing.zarr", RAW[:0], chunks=(1, 20, 24))
    real.volume(folder / "mask.zarr", RAW[:2])
    real.volume(folder / "unsized.zarr", RAW, attributes={"voxel_size": None})
    real.volume(folder / "affs.zarr", real.affinities())
    for channels in (2, 12):
        real.volume(folder / f"affs{channels}.zarr", np.zeros((channels, 3, 20, 24), np.uint8))
    group = zarr.open_group(folder / "several.zarr", mode="w")
    for name in ("labels", "raw"):
        group.create_array(name, data=RAW)
    (folder / "file").write_text("mine")
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("mine")
    (folder / "broken.yaml").write_text("volume: [")
    (folder / "latin.yaml").write_bytes("volume: ä".encode("latin-1"))
    torch.manual_seed(0)
    weights.save(folder / "tiny.safetensors", Student(StudentConfig(filters=1, embedding=2)))
    head = weights.header(folder / "tiny.safetensors").model_dump_json()
    other = Student(StudentConfig(filters=1, embedding=3)).state_dict()
    save_file(
        {name: tensor for name, tensor in other.items() if "num_batches" not in name},
        folder / "other.safetensors",
        metadata={"cadseg": head},
    )
    tied = StudentConfig(filters=1, embedding=2, align_corners=True)
    weights.save(folder / "tied.safetensors", Student(tied))
    teacher = TeacherConfig(widths=(1, 1, 1, 1, 1), embedding=2)
    weights.save(folder / "teacher.safetensors", Teacher(teacher))
    old = {"cadseg": '{"config": {"filters": 1}, "card": ""}'}
    save_file({"a": torch.zeros(1)}, folder / "old.safetensors", metadata=old)
    for name in ("bare", "empty", "part"):
        (folder / f"{name}.pt2").write_bytes(b"")
    (folder / "part.yaml").write_text("multiple: [1, 1, 1]")
    (folder / "empty.yaml").write_text(
        "{dimensions: 3, context: [[1, 1], [1, 1], [1, 1]], multiple: [1, 1, 1], grey: [0.0, 1.0], "
        "offsets: [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], affinity: [0.0, 1.0]}"
    )
    (folder / "code.pt").write_bytes(pickle.dumps({"model_weights": os.system}))
    return folder


def everything(folder: Path) -> dict[str, bytes | None]:
    """All files and folders in `folder`, with content."""
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def sentence(said: real.Said) -> str:
    """The one sentence that was said on standard error."""
    assert said.err.startswith("Error: "), said.err
    assert said.err.count("\n") == 1, said.err
    assert said.out == ""
    return said.err


PREDICT = ("predict", "raw.zarr", "--weights=tiny.safetensors")
SEGMENT = ("segment", "affs.zarr")
# command, and parts of the sentence
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no volume": (("segment", "none.zarr"), ("none.zarr", "there is no volume", "accepted")),
    "a file": (("predict", "file"), ("there is a file",)),
    "several arrays": (("predict", "several.zarr"), ("labels, raw", "several.zarr/labels")),
    "two axes": (("predict", "flat.zarr"), ("(20, 24)", "z, y, x")),
    "no voxel": (("predict", "nothing.zarr"), ("(0, 20, 24)", "without a voxel")),
    "raw is floats": (("predict", "float.zarr"), ("float32", "uint8 or uint16")),
    "raw is affinities": (("predict", "affs.zarr"), ("(3, 6, 42, 48)", "raw must be z, y, x")),
    "affinities are raw": (("segment", "raw.zarr"), ("(3, 20, 24)", "3, z, y, x")),
    "two channels": (("segment", "affs2.zarr"), ("(2, 3, 20, 24)", "3, z, y, x")),
    "twelve channels": (("segment", "affs12.zarr"), ("(12, 3, 20, 24)", "3, z, y, x")),
    "uint16": (("predict", "uint16.zarr"), ("volume.grey_range is null", "uint16")),
    "grey range turned": (
        ("predict", "uint16.zarr", "--set=volume.grey_range=[9, 3]"),
        ("[9, 3]", "lower one first"),
    ),
    "no voxel size": (("predict", "unsized.zarr"), ("no voxel size", "--voxel-size z,y,x")),
    "voxel size of words": ((*PREDICT, "--voxel-size=a,b"), ("--voxel-size", "a,b", "z,y,x")),
    "voxel size of 0": (
        (*PREDICT, "--voxel-size=0,1,1"),
        ("volume.voxel_size.0 is 0.0", "0.000001"),
    ),
    "roi outside": ((*SEGMENT, "--roi=0:7,0:9,0:9"), ("0:7,0:9,0:9", "0:6,0:42,0:48")),
    "roi negative": ((*SEGMENT, "--roi=-1:3,0:9,0:9"), ("-1:3,0:9,0:9", "0:6,0:42,0:48")),
    "roi empty": ((*SEGMENT, "--roi=3:3,0:9,0:9"), ("3:3,0:9,0:9", "no voxel")),
    "roi turned": ((*SEGMENT, "--roi=3:2,0:9,0:9"), ("3:2,0:9,0:9", "no voxel")),
    "roi malformed": ((*SEGMENT, "--roi=3,0:9"), ("--roi", "3,0:9", "z0:z1,y0:y1,x0:x1")),
    "block of 0": ((*SEGMENT, "--set=block_shape=[0, 8, 8]"), ("block_shape.0 is 0", "greater")),
    "tile": ((*PREDICT, "--set=predict.tile=[50, 64]"), ("predict.tile is 50, 64", "of 16, 16")),
    "batch of nothing": ((*PREDICT, "--set=predict.batch=0"), ("predict.batch is 0", "greater")),
    "halo": (
        (*PREDICT, "--set=predict.halo=112"),
        ("predict.halo is 112", "123 voxels", "128 and more, or predict.exact_tiling=false"),
    ),
    "halo of the teacher": (
        ("predict", "raw.zarr", "--weights=teacher.safetensors"),
        ("predict.halo is 128", "173 voxels", "176 and more"),
    ),
    "align_corners": (
        ("predict", "raw.zarr", "--weights=tied.safetensors"),
        ("depend on the size of tiles", "predict.exact_tiling=false"),
    ),
    "older weights": (
        ("predict", "raw.zarr", "--weights=old.safetensors"),
        ("old.safetensors", "the key kind is missing", "this version"),
    ),
    "no description": (
        ("predict", "raw.zarr", "--weights=bare.pt2"),
        ("bare.pt2", "bare.yaml", "cannot be read"),
    ),
    "no exported network": (
        ("predict", "raw.zarr", "--weights=empty.pt2"),
        ("empty.pt2 cannot be read as an exported network",),
    ),
    "description of a part": (
        ("predict", "raw.zarr", "--weights=part.pt2"),
        ("part.yaml", "the key dimensions is missing"),
    ),
    "the other engine without affinities": (
        (*PREDICT, "--discard-affinities", "--set=agglomerate.engine=waterz"),
        ("agglomerate.engine is waterz", "accepted is the engine exact"),
    ),
    "until affinities that are not kept": (
        (*PREDICT, "--discard-affinities", "--until=predict"),
        ("--until predict", "accepted are fragments"),
    ),
    "mask of another shape": ((*PREDICT, "--mask=mask.zarr"), ("(2, 20, 24)", "(3, 20, 24)")),
    "no mask": ((*PREDICT, "--mask=none.zarr"), ("none.zarr", "there is no volume")),
    "mask named null": ((*PREDICT, "--mask=null"), ("null", "there is no volume")),
    "mask with a #": ((*PREDICT, "--mask=cells #2.zarr"), ("cells #2.zarr", "there is no volume")),
    "weights of 5000 characters": ((*PREDICT, f"--weights={'a' * 5000}"), ("cannot be read",)),
    "no weights": ((*PREDICT, "--weights=none"), ("weights none", "no such file")),
    "weights are none": ((*PREDICT, "--weights=file"), ("file", "safetensors")),
    "weights differ": (
        (*PREDICT, "--weights=other.safetensors"),
        ("lower.out.weight", "[3, 2, 1, 1]", "[2, 2, 1, 1]"),
    ),
    "checkpoint of code": (("weights", "import", "code.pt", "o.safetensors"), ("run code",)),
    "no checkpoint": (("weights", "import", "none.pt", "o.safetensors"), ("none.pt",)),
    "unknown key": ((*SEGMENT, "--set=segment.treshold=1"), ("segment.treshold", "threshold")),
    "no value": ((*SEGMENT, "--set=segment.threshold"), ("no '='", "key=value")),
    "out of range": ((*SEGMENT, "--threshold=1.5"), ("segment.threshold is 1.5", "equal to 1")),
    "wrong type": ((*SEGMENT, "--set=block_shape=big"), ("block_shape is 'big'", "tuple")),
    "wrong word": ((*SEGMENT, "--set=agglomerate.scoring=max"), ("'max'", "'mean' or 'median'")),
    "far below the floor": ((*SEGMENT, "--threshold=0.00005"), ("segment.threshold is 5e-05",)),
    "memory without end": ((*SEGMENT, "--set=agglomerate.memory_gb=.inf"), ("memory_gb is inf",)),
    "a list in itself": ((*SEGMENT, "--set=fragments=&a [*a]"), ("not YAML", "holds itself")),
    "steps without end": (
        ("relabel", "mine", "--sweep=1:1:inf", "--ground-truth=raw.zarr"),
        ("1:1:inf is no range",),
    ),
    "config is not text": ((*SEGMENT, "--config=latin.yaml"), ("latin.yaml", "not YAML")),
    "below the floor": ((*SEGMENT, "--threshold=0.05"), ("0.05", "agglomerate.min_affinity, 0.1")),
    "no config": ((*SEGMENT, "--config=none"), ("config none", "fibsem, ssem")),
    "broken config": ((*SEGMENT, "--config=broken.yaml"), ("broken.yaml", "not YAML")),
    "until when": ((*SEGMENT, "--until=segmentation"), ("--until segmentation", "fragments, ")),
    "until before": ((*SEGMENT, "--until=predict"), ("--until predict", "fragments, ")),
    "no number": ((*SEGMENT, "--workers=many"), ("--workers", "many")),
    "no worker": ((*SEGMENT, "--workers=0"), ("--workers", "0")),
    "no option": ((*SEGMENT, "--treshold=1"), ("--treshold",)),
    "no command": (("sgment", "affs.zarr"), ("sgment",)),
    "no argument": (("segment",), ("AFFINITIES",)),
    "out has files": ((*SEGMENT, "--out=mine"), ("output mine", "not written by cadseg")),
    "out is a file": ((*SEGMENT, "--out=file"), ("output file", "is no folder")),
    "out in a file": ((*SEGMENT, "--out=file/o.zarr"), ("file/o.zarr", "is no folder")),
    "out in the volume": ((*SEGMENT, "--out=affs.zarr"), ("not written by cadseg",)),
    "out at an address": (
        (*SEGMENT, "--out=s3://b/o"),
        ("output s3://b/o", "accepted is a folder"),
    ),
    "unwritable": ((*SEGMENT, "--out=/proc/o.zarr"), ("output /proc/o.zarr", "--out")),
    "relabel nothing": (("relabel", "mine", "--threshold=0.5"), ("output mine", "no run")),
    "status of nothing": (("status", "none"), ("output none", "no run")),
    "plan of nothing": (("plan", "none.zarr"), ("none.zarr", "there is no volume")),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence(name: str, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake is named, with what was found and what is accepted; no file is touched."""
    monkeypatch.chdir(inputs)
    command, parts = CASES[name]
    before = everything(inputs)
    said = real.cadseg(*command)
    assert said.code == 2
    text = sentence(said)
    assert [part for part in parts if part not in text] == [], text
    assert everything(inputs) == before


def test_no_gpu(inputs: Path) -> None:
    """Asking for a GPU where there is none is a mistake, too."""
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    process = real.start(*PREDICT, "--device=cuda", cwd=inputs, env=hidden)
    out, err = process.communicate(timeout=300)
    assert "device cuda" in sentence(real.Said(process.returncode, out, err))
    assert process.returncode == 2
    assert not (inputs / "raw.cadseg.zarr").exists()


def test_weights_without_a_place(inputs: Path) -> None:
    """Weights are not imported into a folder that is not there."""
    checkpoint = inputs / "code.pt"
    said = real.cadseg("weights", "import", checkpoint, inputs / "none" / "o.safetensors")
    assert said.code == 2
    sentence(said)


def test_a_changed_key(inputs: Path, tmp_path: Path) -> None:
    """A run that would differ from the one in its folder is refused; the folder stays as it is."""
    command = ("segment", inputs / "affs.zarr", "--out", tmp_path / "o.zarr", "--serial")
    more = (*real.SMALL, "--until=fragments")
    assert real.cadseg(*command, *more).code == 0
    before = everything(tmp_path)
    said = real.cadseg(*command, *more, "--set=fragments.sigma=0.5")
    assert said.code == 2
    assert "fragments.sigma (was 0.3, now 0.5)" in sentence(said)
    assert everything(tmp_path) == before
    said = real.cadseg(*command, *more, "--set=fragments.sigma=0.5", "--restart")
    assert said.code == 0
    deleted = said.err.splitlines()
    assert f"deleting {tmp_path / 'o.zarr' / 'fragments'}" in deleted
    assert f"deleting {tmp_path / 'o.zarr' / 'records' / 'climb'}" in deleted


def test_raw_after_affinities(inputs: Path, tmp_path: Path) -> None:
    """A folder that holds a run from affinities takes no run from raw, with --restart or not."""
    out = ("--out", tmp_path / "o.zarr", "--serial")
    affs = ("segment", inputs / "affs.zarr", *real.SMALL, "--until=fragments")
    assert real.cadseg(*affs, *out).code == 0
    raw = ("predict", inputs / "raw.zarr", "--weights", inputs / "tiny.safetensors")
    for more in ((), ("--restart",)):
        said = real.cadseg(*raw, *out, *more)
        assert said.code == 2
        assert "holds a run from affinities" in sentence(said)


def with_files_of(size: int) -> Callable[[], None]:
    """A process whose files cannot grow beyond so many bytes, as on a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return limit


def ended(process: subprocess.Popen[str]) -> real.Said:
    """How a process ended."""
    out, err = process.communicate(timeout=300)
    lines = [line for line in err.splitlines(keepends=True) if "blocks done" not in line]
    return real.Said(process.returncode, out, "".join(lines))


@pytest.fixture
def full(inputs: Path, tmp_path: Path) -> tuple[object, ...]:
    """A command of some dozen blocks."""
    out = tmp_path / "o.zarr"
    return ("segment", inputs / "affs.zarr", "--out", out, "--serial", BLOCKS, *real.SMALL)


@pytest.mark.parametrize(("size", "code"), [(60, 2), (1500, 1)])
def test_a_disk_without_room(
    size: int, code: int, full: tuple[object, ...], tmp_path: Path
) -> None:
    """A run that cannot even begin says so, and goes on where there is room."""
    process = real.start(*full, "--until=fragments", before=with_files_of(size))
    said = ended(process)
    assert said.code == code
    assert "too large" in sentence(said)
    assert real.cadseg(*full, "--until=fragments").code == 0


def test_a_disk_that_gets_full(full: tuple[object, ...], inputs: Path, tmp_path: Path) -> None:
    """A run that finds the disk full keeps what it has, and goes on where there is room again."""
    process = real.start(*full)
    while real.records(tmp_path / "o.zarr") < 1 and process.poll() is None:
        time.sleep(0.001)
    psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (0, 0))
    said = ended(process)
    assert said.code == 1
    assert re.search("what is finished .*is kept", sentence(said))
    assert real.cadseg(*full).code == 0
    other = tmp_path / "other.zarr"
    fresh = real.cadseg("segment", inputs / "affs.zarr", "--out", other, *full[4:])
    assert fresh.code == 0
    assert real.differing(tmp_path / "o.zarr", other) == []
