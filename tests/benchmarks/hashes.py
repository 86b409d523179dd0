"""What runs leave, as hashes: equal before and after a change that should not move a byte.

    python tests/benchmarks/hashes.py FOLDER [CADSEG] > hashes.txt

FOLDER holds the runs, some 3 GB; CADSEG is the command to run, for comparisons of two versions.
Arrays are hashed as their voxels, tables as their rows in sorted order, so that neither compression
nor the way in which a run is cut plays a part.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import zarr

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SNEMI = (DATA / "snemi3d_ac4" / "train.h5", 40, (30, 6, 6))
FIB25 = (DATA / "fib25_medulla" / "train.h5", 64, (10, 10, 10))
BLOCKS = {"ssem": "block_shape=[24,512,512]", "fibsem": "block_shape=[24,128,128]"}
ARRAYS = ("affinities", "fragments", "segmentation/0", "segmentation/2")
TABLES = ("graph/merges", "segments")


def main() -> None:
    """A line per thing that a run leaves."""
    folder, cadseg = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "cadseg"
    for name, config, volume in (("snemi3d", "ssem", SNEMI), ("fib25", "fibsem", FIB25)):
        raw = _raw(folder / f"{name}.zarr", *volume)
        first = folder / f"{name}-predict.zarr"
        _run(cadseg, "predict", raw, first, config, BLOCKS[config])
        _run(cadseg, "predict", raw, folder / f"{name}-fused.zarr", config, "--discard-affinities")
        for dimensions in (2, 3):
            for scoring in ("mean", "median"):
                out = folder / f"{name}-{dimensions}d-{scoring}.zarr"
                sets = (f"fragments.dimensions={dimensions}", f"agglomerate.scoring={scoring}")
                affinities = first / "affinities"
                _run(cadseg, "segment", affinities, out, config, BLOCKS[config], *sets)


def _raw(path: Path, source: Path, depth: int, voxel_size_nm: tuple[int, ...]) -> Path:
    """Sections of a volume as a Zarr array."""
    if not path.exists():
        with h5py.File(source, "r") as file:
            raw = file["raw"][:depth]
        array = zarr.create_array(path, shape=raw.shape, dtype=raw.dtype, chunks=(16, 256, 256))
        array.attrs["voxel_size"] = voxel_size_nm
        array[:] = raw
    return path


def _run(cadseg: str, verb: str, volume: Path, out: Path, config: str, *changes: str) -> None:
    options = [part for c in changes for part in ([c] if c.startswith("--") else ["--set", c])]
    command = [cadseg, verb, volume, "--out", out, "--config", config, "--workers", "2", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for array in ARRAYS:
        if (out / array).exists():
            voxels = np.ascontiguousarray(zarr.open_array(out / array, mode="r")[:])
            _show(out.stem, array, voxels)
    for table in TABLES:
        files = [pq.read_table(file) for file in sorted((out / table).rglob("*.parquet"))]
        names = sorted({name for file in files for name in file.column_names})
        columns = [np.concatenate([file[name].to_numpy() for file in files]) for name in names]
        _show(out.stem, table, np.stack(columns)[:, np.lexsort(columns)])


def _show(run: str, what: str, values: np.ndarray) -> None:  # type: ignore[type-arg]
    digest = hashlib.sha256(f"{values.shape} {values.dtype}".encode() + values.tobytes())
    print(f"{run:<20}{what:<16}{digest.hexdigest()}", flush=True)


if __name__ == "__main__":
    main()
