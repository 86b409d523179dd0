"""VOI and ARAND of students on SNEMI3D, by threshold, on the sections that no student of ours saw.

    python tests/benchmarks/quality.py [WEIGHTS ...]

Sections 24-31 pick the threshold, 32-39 are reported; each is segmented as a part of the volume.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import h5py

from cadseg.blocks import Roi
from cadseg.evaluation.metrics import contingency, scores
from cadseg.pipeline.execution.progress import Progress
from cadseg.pipeline.run import Execution, predict, relabel
from cadseg.storage import outputs, volume
from cadseg.storage.local_files import LocalFiles

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "snemi3d_ac4" / "train.h5"
THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
PICKED_ON, REPORTED_ON = (24, 32), (32, 40)


def main() -> None:
    """One table per student and scoring."""
    for weights in sys.argv[1:] or ["default-ssem"]:
        for scoring in ("median", "mean"):
            with tempfile.TemporaryDirectory() as folder:
                _table(Path(folder), weights, scoring)


def _table(folder: Path, weights: str, scoring: str) -> None:
    print(f"{weights}, {scoring}")
    curves = {span: _curve(folder, weights, scoring, span) for span in (PICKED_ON, REPORTED_ON)}
    best = min(curves[PICKED_ON], key=lambda t: curves[PICKED_ON][t].voi_sum)
    for span, curve in curves.items():
        for threshold, found in curve.items():
            mark = " <- picked on 24-31" if threshold == best else ""
            found_in = f"  sections {span[0]}-{span[1] - 1}, T {threshold:.2f}:"
            voi = f"{found.voi_split:.3f} + {found.voi_merge:.3f} = {found.voi_sum:.3f}"
            print(f"{found_in} VOI {voi}, ARAND {found.arand:.3f}{mark}")


def _curve(folder: Path, weights: str, scoring: str, span: tuple[int, int]):  # type: ignore[no-untyped-def]
    """Scores by threshold of a run on `span`."""
    with h5py.File(DATA, "r") as file:
        raw, labels = file["raw"][:], file["labels"][slice(*span)]
    everything = Roi((0, 0, 0), raw.shape)
    outputs.create_output(
        LocalFiles(folder / "raw.zarr"),
        "raw",
        shape=raw.shape,
        dtype="uint8",
        shard=raw.shape,
        voxel_size_nm=(30, 6, 6),
    ).write(everything, raw)
    part = Roi((span[0], 0, 0), (span[1], *raw.shape[1:]))
    execution = Execution(serial=True, progress=Progress(quiet=True))
    roi = [list(pair) for pair in zip(part.begin, part.end, strict=True)]
    overrides = [
        "block_shape=[8,512,512]",
        f"volume.roi={roi}",
        f"agglomerate.scoring={scoring}",
        f"predict.weights={weights}",
        "segment.pyramid_levels=0",
    ]
    report = predict(
        str(folder / "raw.zarr" / "raw"),
        execution,
        out=folder / f"sections-{span[0]}.zarr",
        config="ssem",
        overrides=overrides,
    )
    curve = {}
    for threshold in THRESHOLDS:
        relabel(report.out, threshold, execution)
        found = volume.open_volume(f"{report.out}/segmentation/0").read(part)
        curve[threshold] = scores(contingency(found, labels))
    return curve


if __name__ == "__main__":
    main()
