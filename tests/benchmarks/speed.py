"""Mvoxel per second and core of every step from affinities to segmentation, on SNEMI3D.

    python tests/benchmarks/speed.py [AFFINITIES.zarr]

Without an argument, affinities are predicted first, with the default student (minutes). One worker;
times are those of the blocks' own records, reading and writing included, without process starts.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import h5py

from cadseg import volume
from cadseg.blocks import Roi
from cadseg.pipeline.progress import Progress
from cadseg.pipeline.run import How, predict, residue, segment

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "snemi3d_ac4" / "train.h5"
BLOCKS = "block_shape=[40,512,512]"


def main() -> None:
    """Segment, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.zarr"
        affinities = sys.argv[1] if len(sys.argv) > 1 else _predicted(Path(folder))
        how = How(workers=1, progress=Progress(quiet=True))
        segment(affinities, how, out=out, config="ssem", overrides=[BLOCKS])
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
        _table(out)
        for level, counts in enumerate(residue(out)):
            print(f"agglomerate level {level}: {counts}")


def _predicted(folder: Path) -> str:
    """Affinities of the volume, by the default student."""
    raw = folder / "raw.zarr"
    with h5py.File(DATA, "r") as file:
        data = file["raw"][:]
    everything = Roi((0, 0, 0), data.shape)
    array = volume.create_output(
        raw, "raw", shape=data.shape, dtype="uint8", shard=data.shape, voxel_size_nm=(30, 6, 6)
    )
    array.write(everything, data)
    how = How(workers=2, progress=Progress(quiet=True))
    report = predict(
        str(raw / "raw"), how, out=folder / "predicted.zarr", until="predict", overrides=[BLOCKS]
    )
    return str(report.out / "affinities")


def _table(out: Path) -> None:
    voxels = json.loads((out / "run.json").read_text())["shape"]
    size = voxels[0] * voxels[1] * voxels[2]
    total = 0.0
    for step in sorted((out / "records").iterdir()):
        records = [json.loads(path.read_text()) for path in step.glob("*.json")]
        seconds = sum(record["seconds"] for record in records)
        total += seconds
        print(f"{step.name:<16}{seconds:8.2f} s{size / seconds / 1e6:10.2f} Mvoxel/s")
    print(f"{'all':<16}{total:8.2f} s{size / total / 1e6:10.2f} Mvoxel/s")


if __name__ == "__main__":
    main()
