"""Rows per second, and memory, of the steps of an upper level, on generated tables.

    python tests/benchmarks/upper_levels.py FOLDER STEP ROWS [MEMORY_GB]

STEP is `resolve_up`, `resolve_down`, `absorb_small`, `cut` or `measure`. What one block of level 1
reads, some ROWS rows, is written into a run in FOLDER, the block is computed in a process of its
own, and the run is removed. Prints a line of a table: rows, core seconds, seconds, rows per core
second, and GiB of memory without mapped files: idle, and at most.

Clusters lie on a cubic lattice; each merges with one of three neighbours, in an order that jumps
about. Paths cross each voxel of the faces between blocks, and half of them cross again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.agglomeration.segment_table import LOWER, UPPER
from cadseg.pipeline.prepare import prepare
from cadseg.storage import group, outputs
from cadseg.storage.local_files import LocalFiles
from cadseg.storage.scratch import parts
from cadseg.workers import manifest
from cadseg.workers.process import process
from cadseg.workers.stages import steps_of
from cadseg.workers.store import Store
from cadseg.workers.writer import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cadseg.blocks import Zyx
    from cadseg.storage.columns import Table

ORIGIN: tuple[int, int, int] = (0, 0, 0)
LENGTH = 16_384
"""Voxels of a child of the block per axis, y and x."""

Tables = dict[tuple[str, "Zyx"], dict[str, "Iterable[Table]"]]


def main() -> None:
    """Generate, compute in a child, and print what it took."""
    if sys.argv[1] == "--compute":
        _compute(*sys.argv[2:])
        return
    folder, name, rows = Path(sys.argv[1]), sys.argv[2], int(float(sys.argv[3]))
    gigabytes = sys.argv[4] if len(sys.argv) > 4 else "4.0"
    for size in (10_000, rows):  # the first one compiles
        depth = max(1, size // (32 * LENGTH))
        store = _store(folder, depth, f"agglomerate.memory_gb={gigabytes}", name)
        written = _generate(store, MADE[name](store, size))
        seconds, core, idle, peak = _computed(store, name)
        shutil.rmtree(folder)
    print(
        f"| {name} | {written / 1e6:.0f} M | {core:.1f} | {seconds:.1f} "
        f"| {written / core / 1e6:.1f} M | {idle / 2**30:.2f} | {peak / 2**30:.2f} |"
    )


def _store(folder: Path, depth: int, budget: str, name: str) -> Store:
    """A run of 2 x 2 x 2 blocks, or of more along x, that has computed nothing."""
    shape = (2 * depth, 2 * LENGTH, (4 if name == "resolve_down" else 2) * LENGTH)
    outputs.create_output(
        LocalFiles(folder), "affinities", lead=(3,), shape=shape, dtype="uint8", shard=(64,) * 3
    )
    sets = (f"block_shape=[{depth},{LENGTH},{LENGTH}]", "volume.voxel_size=[40,4,4]", budget)
    small = f"segment.min_voxels={100 * (name == 'absorb_small')}"
    run = prepare(
        str(folder / "affinities"),
        source="affinities",
        out=folder / "run",
        overrides=(*sets, small, "segment.pyramid_levels=0"),
    )
    group.ensure_group(run.store.files)
    manifest.write(run.store.files, run.store.manifest)
    return run.store


def _generate(store: Store, made: Tables) -> int:
    """Write tables as their steps would; returns how many rows they have."""
    written = 0
    steps = {step.name: step for step in steps_of(store)}
    for (name, cell), tables in made.items():
        step = steps[name]
        block = store.grid.block(step.level, cell)
        with writing(store, step, block) as out:
            for kind, some in tables.items():
                for part in some:
                    out.table(kind, part)
                    written += next(iter(part.values())).size
        store.write_record(step, block, out.written, {}, 0.0)
    return written


def _computed(store: Store, name: str) -> tuple[float, ...]:
    """Seconds, core seconds, and memory without files, idle and at most, of the block."""
    words = [sys.executable, __file__, "--compute", store.files.url, name]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    found: list[float] = json.loads(done.stdout)
    return tuple(found)


def _compute(url: str, name: str) -> None:
    """Compute the block, and print what `_computed` returns."""
    store = Store.open(url)
    step = next(step for step in steps_of(store) if step.name == f"{name}-1")
    idle, most = _memory(), [0]
    threading.Thread(target=_watch, args=(most,), daemon=True).start()
    started, core = time.monotonic(), time.process_time()
    process(store, step, ORIGIN)
    took = time.monotonic() - started, time.process_time() - core
    print(json.dumps([*took, idle, most[0]]))


def _watch(most: list[int]) -> None:
    while True:
        most[0] = max(most[0], _memory())
        time.sleep(0.02)


def _memory() -> int:
    """Resident bytes of this process that no file holds."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


# paths -------------------------------------------------------------------------------------------


def _resolve_up(store: Store, rows: int) -> Tables:
    """Entries and exits of all children."""
    return {
        ("climb", cell): {
            "entries": _sections(store, cell, _entries),
            "exits": _sections(store, cell, _exits),
        }
        for cell in store.grid.cells(0)
    }


def _resolve_down(store: Store, rows: int) -> Tables:
    """Exits of the block, tops of its children's, and the roots that its parent has written."""
    up: dict[str, Iterable[Table]] = {"exits": _outer(store), "entries": [_table("entry", "top")]}
    children = store.grid.children(1, ORIGIN)
    up["tops"] = (part for cell in children for part in _sections(store, cell, _tops))
    section = 2 * LENGTH - 1  # rows of a child's
    begins = np.arange(9, dtype=np.uint64) * np.uint64(section * store.grid.block_shape[0])
    up["tops_begins"] = [{"begin": begins}]
    leaving = ({"root": part["exit"] - np.uint64(9)} for part in _outer(store))
    ends = np.array([0, 4 * LENGTH * store.grid.block_shape[0]], np.uint64)[[0, 1, 1]]
    down = {"roots": leaving, "roots_begins": [{"begin": ends}]}
    return {("resolve_up-1", ORIGIN): up, ("resolve_down-2", ORIGIN): down}


def _outer(store: Store) -> Iterator[Table]:
    """Exits of the block: across a face, in all of its sections."""
    for z in range(2 * store.grid.block_shape[0]):
        y = np.arange(2 * LENGTH)
        yield {"exit": _ids(store.grid.shape, z, y, np.full(y.size, 2 * LENGTH))}


def _table(*columns: str) -> Table:
    return {name: np.empty(0, np.uint64) for name in columns}


def _sections(
    store: Store, cell: Zyx, made: Callable[[Any, Zyx, int], Table], at_once: int = 8
) -> Iterator[Table]:
    """Rows of a child's sections, some of them at a time."""
    write = store.grid.block(0, cell).write
    for first in range(write.begin[0], write.end[0], at_once):
        sections = range(first, min(first + at_once, write.end[0]))
        some = [made(store.grid.shape, cell, z) for z in sections]
        yield {name: np.concatenate([part[name] for part in some]) for name in some[0]}


def _faces(cell: Zyx, across: int) -> tuple[Any, Any]:
    """Y and x of the voxels of a child's inner faces, or of those beyond them, in order."""
    near = [LENGTH - 1 + (c ^ across) for c in cell[1:]]
    along = [np.arange(c * LENGTH, (c + 1) * LENGTH) for c in cell[1:]]
    y = np.concatenate((np.full(LENGTH, near[0]), along[0][along[0] != near[0]]))
    x = np.concatenate((along[1], np.full(y.size - LENGTH, near[1])))
    order = np.lexsort((x, y))
    return y[order], x[order]


def _ids(shape: Zyx, z: int, y: Any, x: Any) -> Any:
    return ((z * shape[1] + y) * shape[2] + x + 1).astype(np.uint64)


def _entries(shape: Zyx, cell: Zyx, z: int) -> Table:
    y, x = _faces(cell, 0)
    across = np.random.default_rng(z).random(y.size) < 0.5
    on_y = y == LENGTH - 1 + cell[1]
    to_y = np.where(on_y, 2 * LENGTH - 1 - y, np.minimum(y + 2, (cell[1] + 1) * LENGTH - 1))
    to_x = np.where(on_y, np.minimum(x + 2, (cell[2] + 1) * LENGTH - 1), 2 * LENGTH - 1 - x)
    far = (to_y == y) | (to_x == x)
    inside = abs(y - 3 + 6 * (y >= LENGTH)), abs(x - 3 + 6 * (x >= LENGTH))
    leaves = across & ~far
    to_y, to_x = np.where(leaves, to_y, inside[0]), np.where(leaves, to_x, inside[1])
    return {"entry": _ids(shape, z, y, x), "top": _ids(shape, z, to_y, to_x)}


def _exits(shape: Zyx, cell: Zyx, z: int) -> Table:
    return {"exit": _ids(shape, z, *_faces(cell, 1))}


def _tops(shape: Zyx, cell: Zyx, z: int) -> Table:
    y, x = _faces(cell, 1)
    leaves = np.random.default_rng(z).random(y.size) < 0.5
    return {"top": _ids(shape, z, y, np.where(leaves, 2 * LENGTH, x))}


# clusters ----------------------------------------------------------------------------------------


def _cut(store: Store, rows: int) -> Tables:
    """Merges of the block, and what its children have handed up."""
    side = round((rows / 2) ** (1 / 3))
    made: Tables = {("agglomerate-1", ORIGIN): _agglomerated(_merges(side), [])}
    for place, cell in enumerate(store.grid.cells(0)):
        made["agglomerate-0", cell] = _agglomerated([], _rows(side, place))
    return made


def _absorb_small(store: Store, rows: int) -> Tables:
    """The same, and how large clusters are, and their components."""
    side = round((rows / 4) ** (1 / 3))
    made: Tables = {("agglomerate-1", ORIGIN): _agglomerated(_merges(side), _rows(side, None))}
    for place, cell in enumerate(store.grid.cells(0)):
        made["absorb_small-0", cell] = {
            "joins": [_table("fragment", "component")],
            "ends": ({"fragment": ids, "component": ids} for ids in _octant(side, place)),
            "voxels": (
                {"fragment": ids, "voxels": np.full(ids.size, 10, np.uint64)}
                for ids in _octant(side, place)
            ),
        }
    return made


def _measure(store: Store, rows: int) -> Tables:
    """Segments of the children; of ten, one lies in all of them."""
    made: Tables = {}
    for place, cell in enumerate(store.grid.cells(0)):
        made["segment", cell] = {"parts": _parts(rows // 8, np.uint64(place))}
    return made


def _parts(size: int, place: Any) -> Iterator[Table]:
    for part in parts(size):
        number = np.arange(part.start, part.stop, dtype=np.uint64)
        own = np.where(number % np.uint64(10) == 0, np.uint64(0), place)
        box = np.random.default_rng(part.start).integers(0, 3000, (3, number.size))
        yield {
            "segment": number * np.uint64(5000) + own + np.uint64(1),
            "voxels": box[0] * 100,
            **{name: low + 0 for name, low in zip(LOWER, box, strict=True)},
            **{name: low + 50 for name, low in zip(UPPER, box, strict=True)},
            "fragments": box[1],
        }


def _agglomerated(merges: Iterable[Table], rows: Iterable[Table]) -> dict[str, Iterable[Table]]:
    """All tables of `agglomerate`."""
    none = _table("u", "v", "key_u", "key_v", "sum", "count", "width")
    return {
        "merges": merges or [_table("fragment", "parent", "sum", "count", "key_u", "key_v")],
        "rows": rows or [none],
        "bins": [_table("bin", "bin_count")],
        "frozen": [{"fragment": np.empty(0, np.uint64), "faces": np.empty(0, np.uint8)}],
    }


def _merges(side: int) -> Iterator[Table]:
    """Each cluster of the lattice but the first few ends, in an order that jumps about."""
    size = side**3 - side**2
    step = next(n for n in range(int(size * 0.618), size) if np.gcd(n, size) == 1)
    jumps = np.array([1, side, side * side], np.uint64)
    for part in parts(size):
        place = np.arange(part.start, part.stop, dtype=np.uint64)
        node = place * np.uint64(step) % np.uint64(size) + np.uint64(side * side)
        parent = _id(node - jumps[np.random.default_rng(part.start).integers(0, 3, node.size)])
        yield {
            "fragment": _id(node),
            "parent": parent,
            "sum": np.uint64(255) - place * np.uint64(255) // np.uint64(size),
            "count": np.ones(node.size, np.uint64),
            "key_u": parent,
            "key_v": _id(node),
        }


def _rows(side: int, place: int | None) -> Iterator[Table]:
    """A row from each cluster of an octant, or of the lattice, to a neighbour."""
    jumps = np.array([1, side, side * side], np.uint64) * np.uint64(1000)
    for u in _octant(side, place):
        v = u + jumps[np.random.default_rng(u.size).integers(0, 3, u.size)]
        ones = np.ones(u.size, np.uint64)
        yield {"u": u, "v": v, "key_u": u, "key_v": v, "sum": ones, "count": ones, "width": ones}


def _octant(side: int, place: int | None) -> Iterator[Any]:
    """Clusters of an octant of the lattice, or of all of it, in order."""
    half = side // 2
    z, y, x = (
        np.arange(side) if place is None else np.arange(bit * half, half if bit == 0 else side)
        for bit in ((place or 0) >> 2 & 1, (place or 0) >> 1 & 1, (place or 0) & 1)
    )
    layer = (y[:, None] * side + x).ravel()
    at_once = max(1, (1 << 18) // layer.size)
    for first in range(0, z.size, at_once):
        yield _id((z[first : first + at_once, None] * side**2 + layer).ravel().astype(np.uint64))


def _id(node: Any) -> Any:
    return node * np.uint64(1000) + np.uint64(1)


MADE: dict[str, Callable[[Store, int], Tables]] = {
    "resolve_up": _resolve_up,
    "resolve_down": _resolve_down,
    "absorb_small": _absorb_small,
    "cut": _cut,
    "measure": _measure,
}

if __name__ == "__main__":
    main()
