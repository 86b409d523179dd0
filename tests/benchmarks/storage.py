"""How long objects and arrays take by our own code, and by the libraries that could do it.

    python tests/benchmarks/storage.py FOLDER [ROUNDS]

Objects: `LocalFiles` and obstore's LocalStore. Arrays: our shards, TensorStore, zarrs and zarr, on
the same bytes: 16 x 1024 x 1024 voxels as one shard of 16 x 128 x 128 chunks. What is not installed
(the extra ``benchmark``) is left out, with a line. All take turns, round by round; min and median
are printed. CPU seconds are those of the process, with all its threads. What is written, some 300
MB in FOLDER, is in the system's cache when it is read.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from unittest import mock

import h5py
import numpy as np
import zarr

from cadseg.blocks import Roi, zyx
from cadseg.fragments import climb, heights
from cadseg.pipeline.execution.progress import Progress
from cadseg.pipeline.run import Execution, segment
from cadseg.storage import outputs
from cadseg.storage.local_files import LocalFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Works = dict[tuple[str, str], Callable[[], object]]

AFFINITIES = Path(__file__).parents[1] / "data" / "fib25_affinities.h5"
SHAPE, SHARD = (16, 2048, 2048), (16, 1024, 1024)
ONE = Roi((0, 0, 0), SHARD)
ACROSS = Roi((0, 768, 768), (16, 1280, 1280))  # a quarter of a shard, out of four of them

SIZES = {"record, 200 B": 200, "table, 100 kB": 100_000, "shard, 16 MB": 16_000_000}
TIMES = {200: 200, 100_000: 100, 16_000_000: 4}  # per round
PARTS = 16  # ranges of an object that are read together
LISTED = 1000  # objects in a folder


def main() -> None:
    """Two tables."""
    folder = Path(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    show("objects, us", 1e6, timed(dict(objects(folder / "objects")), rounds))
    for name, data in (("affinities u8", affinities()), ("labels u64", labels())):
        here = folder / name.replace(" ", "-")
        show(f"{name}, s", 1, timed(dict(arrays(here, data)), rounds))
    show("whole run, s", 1, timed(dict(runs(folder / "runs")), max(1, rounds // 3)))
    for who in libraries():
        megabytes = peak(folder / "peak", who) / 1e6
        print(f"growth while a block of names is written, {who}: {megabytes:.0f} MB")


def timed(works: Works, rounds: int) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """CPU and wall seconds of every work in each round, by what is done and who does it."""
    found = defaultdict(list)
    for number in range(rounds + 1):
        order = list(works)[::-1] if number % 2 else list(works)
        for what in order:
            cpu, wall = time.process_time(), time.perf_counter()
            repeats = works[what]() or 1
            taken = (time.process_time() - cpu, time.perf_counter() - wall)
            if number:  # the first one loads code and fills caches
                found[what].append((taken[0] / repeats, taken[1] / repeats))
    return found


def show(title: str, unit: float, found: dict[tuple[str, str], list[tuple[float, float]]]) -> None:
    """A row per work: CPU and wall time, min and median of all rounds."""
    print(f"\n| {title} | by | CPU, min | median | wall, min | median |\n|---|---|---|---|---|---|")
    for (what, who), times in sorted(found.items(), key=lambda item: item[0][0]):
        columns = [pick(t) * unit for t in zip(*times, strict=True) for pick in (min, middle)]
        print(f"| {what} | {who} | " + " | ".join(f"{value:.4g}" for value in columns) + " |")


middle = statistics.median


def library(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed, and left out", file=sys.stderr)
        return None


# objects -------------------------------------------------------------------------------------


class ByObstore:
    """The same verbs by obstore."""

    def __init__(self, folder: Path) -> None:
        self._library = importlib.import_module("obstore")
        stores = importlib.import_module("obstore.store")
        self._store = stores.LocalStore(folder, mkdir=True)

    def read(self, name: str) -> Any:
        return self._library.get(self._store, name).bytes()

    def read_ranges(self, name: str, spans: list[tuple[int, int]]) -> Any:
        starts, lengths = zip(*spans, strict=True)
        return self._library.get_ranges(self._store, name, starts=starts, lengths=lengths)

    def write(self, name: str, data: bytes) -> None:
        self._library.put(self._store, name, data, use_multipart=False)

    def create(self, name: str, data: bytes) -> None:
        self._library.put(self._store, name, data, mode="create", use_multipart=False)

    def list(self, folder: str) -> list[str]:
        found = self._library.list_with_delimiter(self._store, folder)
        return [item["path"] for item in found["objects"]]

    def remove(self, name: str) -> None:
        self._library.delete(self._store, name)


def objects(folder: Path) -> Iterable[tuple[tuple[str, str], Callable[[], object]]]:
    """What is done with objects of each size."""
    stores: dict[str, Any] = {"os": LocalFiles(folder / "os")}
    if library("obstore"):
        stores["obstore"] = ByObstore(folder / "obstore")
    for (name, size), (who, store) in itertools.product(SIZES.items(), stores.items()):
        data = np.random.default_rng(0).bytes(size)
        times = TIMES[size]
        step = size // PARTS
        spans = [(place * step, step // 2) for place in range(PARTS)]
        work = functools.partial(_each, times)
        yield (
            (f"write {name}", who),
            work(lambda i, s=store, n=size, d=data: s.write(f"{n}/{i}", d)),
        )
        yield (f"read {name}", who), work(lambda i, s=store, n=size: s.read(f"{n}/{i}"))
        yield (
            (f"{PARTS} ranges {name}", who),
            work(lambda i, s=store, n=size, r=spans: list(s.read_ranges(f"{n}/{i}", r))),
        )

        def anew(i: int, s: Any = store, n: int = size, d: bytes = data) -> None:
            s.create(f"new-{n}/{i}", d)
            s.remove(f"new-{n}/{i}")

        yield (f"create and remove {name}", who), work(anew)
    for who, store in stores.items():
        for number in range(LISTED):
            store.write(f"many/{number}", b"x")
        yield (
            (f"list {LISTED}", who),
            functools.partial(_each, 5)(lambda i, s=store: s.list("many")),
        )


def _each(times: int, do: Callable[[int], object]) -> Callable[[], int]:
    def work() -> int:
        for number in range(times):
            do(number)
        return times

    return work


# arrays --------------------------------------------------------------------------------------


def affinities() -> np.ndarray[Any, Any]:
    """A student's affinities and mirror images of them, [3, z, y, x] uint8."""
    with h5py.File(AFFINITIES, "r") as file:
        data = file["affinities"][:]
    pads = [(0, 0), *((0, max(0, n - m)) for n, m in zip(SHARD, data.shape[1:], strict=True))]
    wide = np.pad(data, pads, "symmetric")[:, : SHARD[0], : SHARD[1], : SHARD[2]]
    return np.ascontiguousarray(wide)


def labels() -> np.ndarray[Any, Any]:
    """Fragments of these, with the ids that they have in a large volume, [z, y, x] u64."""
    field = heights.heights(
        affinities()[1:], distance_clip=24, sigma=2.0, boundary_weight=2.0, first=(True, True)
    )
    found = climb.climb(field, ONE, ONE, SHARD, dimensions=2)
    ids = np.append(np.uint64(0), found.ids + np.uint64(10**12))
    return ids[found.labels]


def arrays(
    folder: Path, data: np.ndarray[Any, Any]
) -> Iterable[tuple[tuple[str, str], Callable[[], object]]]:
    """Write a shard, read it, and read a box across four, by each library, from the same bytes."""
    for who, way in libraries().items():
        made = outputs.create_output(
            LocalFiles(folder / who),
            "a",
            lead=data.shape[:-3],
            shape=SHAPE,
            dtype=str(data.dtype),
            shard=SHARD,
        )
        for y, x in itertools.product((0, 1024), (0, 1024)):
            made.write(Roi((0, y, x), zyx((16, y + 1024, x + 1024))), data)
        array = way(folder / who / "a", made)
        for box in (ONE, ACROSS):
            assert np.array_equal(array.read(box), made.read(box)), f"{who} reads {box} otherwise"
        yield ("write", who), functools.partial(array.write, ONE, data)
        yield ("read", who), functools.partial(_nothing, array.read, ONE)
        yield ("box across four", who), functools.partial(_nothing, array.read, ACROSS)


def libraries() -> dict[str, Any]:
    """What can read and write a run's arrays."""
    ways: dict[str, Any] = {"ours": Ours, "zarr": ByZarr}
    if library("zarrs"):
        ways["zarrs"] = ByZarrs
    if library("tensorstore"):
        ways["TensorStore"] = ByTensorStore
    return ways


def runs(folder: Path) -> Iterable[tuple[tuple[str, str], Callable[[], object]]]:
    """Affinities to segmentation in this process, with the run's arrays in the hands of each."""
    data = affinities()
    made = outputs.create_output(
        LocalFiles(folder), "affinities", lead=(3,), shape=SHARD, dtype="uint8", shard=SHARD
    )
    made.write(ONE, data)
    for who, way in libraries().items():
        yield ("affinities to segmentation", who), functools.partial(_run, folder, who, way)


def _run(folder: Path, who: str, way: Any) -> None:
    out = folder / f"{who}.zarr"
    shutil.rmtree(out, ignore_errors=True)
    if way is Ours:
        _segment(folder / "affinities", out)
        return

    @functools.cache
    def opened(name: str) -> Any:
        return way(out / name, None)

    def write(array: outputs.OutputArray, cover: Roi, data: Any, names: Any = None) -> int:
        opened(array.name).write(cover, data if names is None else names[data])
        return 0

    with (
        mock.patch.object(outputs.OutputArray, "read", lambda a, box: opened(a.name).read(box)),
        mock.patch.object(outputs.OutputArray, "write", write),
    ):
        _segment(folder / "affinities", out)


def _segment(affinities: Path, out: Path) -> None:
    sets = ["volume.voxel_size=[30,6,6]", "block_shape=[16,512,512]"]
    execution = Execution(serial=True, progress=Progress(quiet=True))
    segment(str(affinities), execution, out=out, config="ssem", overrides=sets)


def peak(folder: Path, who: str) -> int:
    """Bytes by which a process grows that writes a default block of names, given its numbers."""
    path = [*sys.path, str(Path(__file__).parent)]
    code = f"import sys; sys.path = {path}; import storage; storage.named({str(folder)!r}, {who!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def named(folder: str, who: str) -> None:
    """Print the growth of this process while it writes the block."""
    block = Roi((0, 0, 0), (48, 1024, 1024))
    files = LocalFiles(Path(folder, who))
    made = outputs.create_output(files, "a", shape=block.shape, dtype="uint64", shard=block.shape)
    numbers = np.repeat(np.arange(block.size // 512, dtype=np.uint32), 512).reshape(block.shape)
    names = np.arange(numbers.size // 512, dtype=np.uint64) + np.uint64(10**12)
    array = libraries()[who](Path(folder, who, "a"), made)
    before = _peak()
    if who == "ours":
        made.write(block, numbers, names)
    else:
        array.write(block, names[numbers])
    print(_peak() - before)


def _peak() -> int:
    """Peak memory of this process in bytes; ``ru_maxrss`` would begin with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _nothing(read: Callable[[Roi], object], box: Roi) -> None:
    read(box)


class Ours:
    """Our own shards."""

    def __init__(self, path: Path, made: outputs.OutputArray) -> None:
        self._array = made

    def read(self, box: Roi) -> np.ndarray[Any, Any]:
        return self._array.read(box)

    def write(self, box: Roi, data: np.ndarray[Any, Any]) -> None:
        self._array.write(box, data)


class ByZarr:
    """zarr, with its own codecs."""

    settings: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, path: Path, made: outputs.OutputArray) -> None:
        with zarr.config.set(dict(self.settings)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._array = zarr.open_array(str(path), mode="r+")

    def read(self, box: Roi) -> np.ndarray[Any, Any]:
        with zarr.config.set(dict(self.settings)):
            return np.asarray(self._array[(..., *box.slices())])

    def write(self, box: Roi, data: np.ndarray[Any, Any]) -> None:
        with zarr.config.set(dict(self.settings)):
            self._array[(..., *box.slices())] = data


class ByZarrs(ByZarr):
    """zarr, with codecs in Rust."""

    settings = MappingProxyType({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})


class ByTensorStore:
    """TensorStore, with its caches off."""

    def __init__(self, path: Path, made: outputs.OutputArray) -> None:
        tensorstore = importlib.import_module("tensorstore")
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
        self._array = tensorstore.open(spec).result()

    def read(self, box: Roi) -> np.ndarray[Any, Any]:
        return self._array[(..., *box.slices())].read().result()

    def write(self, box: Roi, data: np.ndarray[Any, Any]) -> None:
        self._array[(..., *box.slices())].write(data).result()


if __name__ == "__main__":
    main()
