"""cadseg, waterz and volara side by side: the same affinities, the same machine, one table.

    python tests/benchmarks/versus.py [--only PART ...] [--sizes ZxYxX ...] [--crop ZxYxX]
                                      [--scratch FOLDER] [--write]

Parts:
    waterz    the CAD paper's recipe on the whole volume in memory, one process
    volara    two workers, in an environment of its own that is made in the scratch folder
    ours      `cadseg segment`: engine exact with one worker and two; engine waterz
    scaling   cost per voxel, memory and files by the size of the volume, in default blocks
    quality   VOI on SNEMI3D, the threshold picked on sections 0-19 and scored on 20-39
    shapes    VOI between segmentations of one volume that is cut in three ways

Everyone starts from affinities on disk and ends with a segmentation on disk, with one thread per
process. Times are those of whole commands; volara's imports are left out. Affinities are those of
the published AC34 student on SNEMI3D AC4, and mirrored copies of them. What is made once (the
affinities, volara's environment) stays in the scratch folder; runs take 20 GB there, and go.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from pathlib import Path

from beside import partitions, report, speeds, volumes
from beside.bench import Bench
from beside.report import Table

SIZES = ("20x1024x1024", "40x1024x1024", "80x2048x1536", "80x4096x3072")
OTHERS = ("waterz, median", "waterz, mean", "volara, two workers")
PARTS = {
    "waterz": speeds.waterz,
    "volara": speeds.volara,
    "ours": speeds.cadseg,
    "scaling": speeds.scaling,
    "quality": partitions.quality,
    "shapes": partitions.shapes,
}


def main() -> None:
    """Measure what is asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="ZxYxX")
    parser.add_argument("--crop", default="40x1024x1024", metavar="ZxYxX")
    default = Path(tempfile.gettempdir(), "cadseg-benchmark")
    parser.add_argument("--scratch", type=Path, default=default)
    parser.add_argument("--write", action="store_true", help="replace the section of results.md")
    asked = parser.parse_args()
    about = report.about(os.getloadavg()[0])
    said = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # waterz prints, from C++
    asked.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.scratch) as folder:
        sizes = tuple(volumes.shape_of(name) for name in asked.sizes)
        crop = volumes.shape_of(asked.crop)
        bench = Bench(Table(), asked.scratch.absolute(), Path(folder).absolute(), crop, sizes)
        speeds.warm(bench)
        for name in asked.only:
            PARTS[name](bench)
    ours = [who for who in bench.table.speeds if who not in OTHERS]
    for who, other in itertools.product(ours, OTHERS):
        bench.table.add_ratio(who, other)
    text = f"{about}\n\n{bench.table}"
    print(text, file=said, flush=True)
    if asked.write:
        report.write(text)


if __name__ == "__main__":
    main()
