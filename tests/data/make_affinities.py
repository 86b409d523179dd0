"""Makes fib25_affinities.h5: what the student that ships says about a part of the demo volume.

Run it again when the student changes: ``python tests/data/make_affinities.py``.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from cadseg.models import weights
from cadseg.models.predict import Predictor

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "pipeline" / "demo.h5"
PART = (slice(None), slice(0, 32), slice(48, 200), slice(48, 200))
STRIDE = 16

SOURCE = (
    "affinities [3, z, y, x] to the lower neighbour along z, y, x, 255 is certain; of sections "
    "0:32, rows 48:200, columns 48:200 of pipeline/demo.h5 (FIB-25: FlyEM, HHMI Janelia; CC BY)"
)


def main() -> None:
    """Predict every section pair as one tile, and keep the part."""
    with h5py.File(DEMO, "r") as file:
        raw = file["raw"][:]
    height, width = raw.shape[1:]
    padding = [(0, 0), (0, -height % STRIDE), (0, -width % STRIDE)]
    raw = np.pad(raw, padding, mode="reflect")
    predict = Predictor(weights.find("default-fibsem"))
    pairs = [raw[[max(z - 1, 0), z]] for z in range(len(raw))]
    affinities = np.concatenate([predict(pair) for pair in pairs], axis=1)
    affinities[0, 0] = 0
    with h5py.File(HERE / "fib25_affinities.h5", "w") as file:
        data = file.create_dataset(
            "affinities", data=affinities[PART], compression="gzip", compression_opts=9
        )
        data.attrs["source"] = SOURCE


if __name__ == "__main__":
    main()
