"""volara, run in an environment of its own: mutex watershed in blocks, mean affinities, one graph.

    python volara_peer.py AFFINITIES OUT Z Y X

Two workers, blocks of Z x Y x X. Biases and weights are those of volara's own example on CREMI, for
its direct neighbours; a context of one section and 16 voxels is less than the example's.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from funlib.geometry import Coordinate
from volara.blockwise import AffAgglom, ExtractFrags, GraphMWS, Relabel
from volara.datasets import Affs, Labels
from volara.dbs import SQLite
from volara.lut import LUT

WORKERS = 2
BIAS_Z, BIAS_YX = -0.6, -0.4
NEIGHBOURS = [Coordinate(-1, 0, 0), Coordinate(0, -1, 0), Coordinate(0, 0, -1)]


def main() -> None:
    """From affinities on disk to ``OUT/segments``; ``OUT/seconds`` says how long it took."""
    affinities, out = (Path(word).absolute() for word in sys.argv[1:3])
    block = Coordinate(int(word) for word in sys.argv[3:])
    out.mkdir(parents=True)
    os.chdir(out)  # its logs and done-marks go to the working directory
    started = time.monotonic()
    pipeline(affinities, out, block).run_blockwise(multiprocessing=True)
    Path("seconds").write_text(str(time.monotonic() - started))


def pipeline(affinities: Path, out: Path, block: Coordinate):  # type: ignore[no-untyped-def]
    """All four tasks."""
    affs = Affs(
        store=affinities,
        neighborhood=NEIGHBOURS,
        voxel_size=Coordinate(30, 6, 6),
        offset=Coordinate(0, 0, 0),
        axis_names=["c^", "z", "y", "x"],
        units=["nm", "nm", "nm"],
        writable=False,
    )
    graph = SQLite(path=out / "fragments.db", edge_attrs={"z_aff": "float", "yx_aff": "float"})
    fragments, segments = (Labels(store=out / name) for name in ("fragments", "segments"))
    table = LUT(path=out / "lut.npz")
    shared = {"db": graph, "affs_data": affs, "frags_data": fragments, "block_size": block}
    return (
        ExtractFrags(
            **shared,
            context=Coordinate(1, 16, 16),
            bias=[BIAS_Z, BIAS_YX, BIAS_YX],
            num_workers=WORKERS,
        )
        + AffAgglom(
            **shared,
            context=Coordinate(1, 1, 1),
            scores={"z_aff": NEIGHBOURS[:1], "yx_aff": NEIGHBOURS[1:]},
            num_workers=WORKERS,
        )
        + GraphMWS(
            db=graph,
            lut=table,
            weights={"z_aff": (1, BIAS_Z), "yx_aff": (1, BIAS_YX)},
            roi=(affs.array("r").roi.begin, affs.array("r").roi.shape),
        )
        + Relabel(
            lut=table,
            frags_data=fragments,
            seg_data=segments,
            block_size=block,
            num_workers=WORKERS,
        )
    )


if __name__ == "__main__":
    main()
