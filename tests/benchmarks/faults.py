"""Single faults in files of a run, between two stages: seen, and made good by the same command?

``python tests/benchmarks/faults.py CASES [SEED]``: a run from raw on a tiny volume is stopped after
a stage, one of its files is deleted, cut, changed in one bit, or replaced by another of its kind,
and the same command is given again. A case is *good* where it ends, and all files are those of a
run without a fault, byte for byte; *refused* where a sentence says why it cannot go on. Prints a
row per kind of file and fault, and every case that is neither.
"""

from __future__ import annotations

import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import h5py
import real_run as real

from cadseg.errors import CadsegError
from cadseg.pipeline import run

STAGES = ("predict", "fragments", "edges", "agglomerate", "segment")
FAULTS = ("delete", "cut", "flip", "swap")


def kind_of(name: str) -> str:
    """A file's name without its place."""
    return re.sub(r"(^|/)[0-9.]+(?=/|\.|$)", r"\1N", name)


def files_of(out: Path) -> list[str]:
    """Names of the files of a run, but for logs."""
    found = (path.relative_to(out) for path in sorted(out.rglob("*")) if path.is_file())
    return [str(name) for name in found if name.parts[0] != "logs"]


def contents(out: Path) -> dict[str, object]:
    """All that a run has made; of records all but seconds."""
    found = real.contents(out)
    for name in ("run.json", "zarr.json"):
        found[name] = (out / name).read_bytes()
    return found


def harm(out: Path, name: str, fault: str, rng: random.Random) -> bool:
    """Do harm to a file; whether it is another one now."""
    path = out / name
    good = path.read_bytes()
    if fault == "delete":
        path.unlink()
        return True
    if fault == "cut":
        path.write_bytes(good[: rng.randrange(len(good))])
    elif fault == "flip":
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
    else:
        others = [other for other in files_of(out) if kind_of(other) == kind_of(name)]
        path.write_bytes((out / rng.choice(others)).read_bytes())
    return path.read_bytes() != good


def main(cases: int, seed: int) -> None:
    """Try so many cases."""
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    with h5py.File(real.ROOT / "pipeline" / "demo.h5") as file:
        raw = file["raw"][:]
    volume = real.volume(folder / "raw", raw[:6, :50, :60])
    weights = real.student(folder / "w.safetensors", raw)
    sets = [*real.SETS, f"predict.weights={weights}", "predict.tile=[32, 32]"]
    sets += ["segment.min_voxels=9", "block_shape=[3, 32, 32]"]

    def compute(out: Path, until: str | None = None) -> run.Report:
        return run.predict(str(volume), real.HERE, out=out, overrides=sets, until=until)

    compute(folder / "whole")
    whole, states = contents(folder / "whole"), {}
    for stage in STAGES:
        states[stage] = folder / f"until-{stage}"
        compute(states[stage], stage)
    results: Counter[tuple[str, str, str]] = Counter()
    for case in range(cases):
        stage, fault = rng.choice(STAGES), rng.choice(FAULTS)
        out = folder / "case"
        shutil.copytree(states[stage], out)
        name = rng.choice(files_of(out))
        changed = harm(out, name, fault, rng)
        try:
            compute(out)
            same = contents(out) == whole
            result = "good" if same else "WRONG"
        except CadsegError as error:
            result = f"refused: {error}"[:300].replace(str(folder), "")
        except Exception as error:
            result = f"TRACEBACK {type(error).__name__}: {error}"
        if changed:
            results[kind_of(name), fault, result.partition(":")[0].split()[0]] += 1
        if result != "good":
            print(f"{case}: {stage}: {fault} {name}: {result}", flush=True)
        shutil.rmtree(out)
    for key, count in sorted(results.items()):
        print(*key, count, sep="\t")
    print(sum(results.values()), "cases:", Counter(key[2] for key in results.elements()))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
