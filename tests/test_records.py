"""Records, each in a file of its own or packed: what was written is found, whoever looks."""

from __future__ import annotations

import tempfile
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
import real_run as real
import toy_run
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_run import quiet

from cadseg.pipeline.execution import records as books
from cadseg.pipeline.execution import watch
from cadseg.pipeline.execution.driver import run_steps
from cadseg.pipeline.execution.records import largest, loose_cells, tally
from cadseg.pipeline.execution.status import status
from cadseg.storage.checksums import Written
from cadseg.storage.columns import ColumnWriter, Table
from cadseg.storage.local_files import LocalFiles
from cadseg.workers import manifest as manifests
from cadseg.workers import packs
from cadseg.workers.lookup import Lookup
from cadseg.workers.manifest import Origin
from cadseg.workers.names import pack_name
from cadseg.workers.records import Record
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cadseg.blocks import Zyx

STEP = toy_run.step("a")
FIRST: Zyx = (0, 0, 0)
FILES = ["x/0", "y/1", "z/2"]

numbers = st.integers(0, 2**50)
written = st.builds(Written, st.integers(0, 2**40), st.integers(0, 2**32 - 1))
found = st.builds(
    Record,
    identity=st.just("abc"),
    voxels=numbers,
    seconds=st.integers(0, 10**12).map(lambda micros: micros / packs.MICRO),
    counts=st.dictionaries(st.sampled_from(["merges", "left", "largest"]), numbers),
    files=st.dictionaries(st.sampled_from(FILES), written),
)
cells = st.tuples(st.integers(16, 17), st.just(31), st.integers(16, 18))
some = st.dictionaries(cells, found, min_size=1, max_size=6)


def rows_of(some: dict[Zyx, Record]) -> Table:
    """Rows of a pack, of blocks that may write `FILES`."""
    return packs.rows_of(some, dict.fromkeys(some, FILES))


@settings(deadline=None, max_examples=40)
@given(old=some, new=some)
def test_there_and_back(old: dict[Zyx, Record], new: dict[Zyx, Record]) -> None:
    """Every record comes back from a pack as it was, the newer one of a block that has two."""
    with tempfile.TemporaryDirectory() as folder:
        files = LocalFiles(folder)
        rows = packs.joined(rows_of(old), rows_of(new))
        packs.write(files, "a", (1, 1, 1), "abc", rows)
        pack = packs.read(files, "a", (1, 1, 1))
        sums, maxima = packs.read_sums(files, "a", (1, 1, 1), "abc")
        assert packs.read(files, "a", (1, 1, 1), pack) is pack
    assert pack is not None
    both = old | new
    assert {cell: pack.record(cell, FILES) for cell in both} == both
    assert list(map(tuple, packs.cells_of(pack.rows).tolist())) == sorted(both)
    assert [lengths.size for lengths in packs.lengths_of(rows)] == [len(both)] * len(FILES)
    assert sums["blocks"] == len(both)
    assert sums["voxels"] == sum(record.voxels for record in both.values())
    for name in {name for record in both.values() for name in record.counts}:
        counted = [record.counts[name] for record in both.values() if name in record.counts]
        assert sums[f"count {name}"] == sum(counted)
        assert maxima[f"count {name}"] == max(counted)


@settings(deadline=None, max_examples=40)
@given(some=some, gone=st.sets(cells, max_size=3))
def test_without_some(some: dict[Zyx, Record], gone: set[Zyx]) -> None:
    """A pack without some blocks is the pack of the others."""
    kept = {cell: record for cell, record in some.items() if cell not in gone}
    pack = packs.Pack("abc", packs.without(rows_of(some), gone), 0)
    assert {cell: pack.record(cell, FILES) for cell in some if cell in pack} == kept


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four records of a super-cell are enough to be packed."""
    monkeypatch.setattr(books, "ENOUGH", 4)
    monkeypatch.setattr(watch, "ENOUGH", 4)


def packed(out: Path) -> dict[str, bytes]:
    """All packs of a run."""
    return {path.name: path.read_bytes() for path in (out / "records").rglob("*.columns")}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("serial", [True, False])
def test_a_run_leaves_packs(tmp_path: Path, serial: bool) -> None:
    """Full super-cells end as one file each, small ones as they are, and every block is done."""
    out = toy_run.folder(tmp_path, shape=(30, 30, 170))  # 9 x 17 blocks: 144 and 9
    steps = [STEP, toy_run.step("b", "a", level=1), toy_run.step("c", "b", level=3)]
    assert run_steps(out, steps, quiet(workers=2, serial=serial))["c"].done == 3
    store = Store.open(out)
    assert [loose_cells(store.files, "a", (0, 0, x)) for x in (0, 1)] == [[], []]
    assert len(loose_cells(store.files, "c", FIRST)) == 3
    assert sorted(packed(out)) == ["0.0.0.columns", "0.0.0.columns", "0.0.1.columns"][1:]
    assert [step.done for step in status(store, steps)] == [153, 36, 3]
    assert all(store.record(STEP, cell) is not None for cell in store.grid.cells(0))
    before = packed(out)
    run_steps(out, steps, quiet(workers=2, serial=serial))
    assert packed(out) == before
    assert {path.read_text() for path in (out / "toy-attempts").iterdir()} == {"."}


def full(tmp_path: Path) -> Store:
    """A run of eight blocks, all done, and counted from 0 on; their records are packed."""
    store = Store.open(toy_run.folder(tmp_path))
    for number, cell in enumerate(store.grid.cells(0)):
        counts = {"merges": number, "largest": 100 - number, "largest_voxels": number}
        store.write_record(STEP, store.grid.block(0, cell), {}, counts, 0.5)
    pack(store)
    return store


def pack(store: Store) -> None:
    """Pack the records that are there."""
    cells = loose_cells(store.files, "a", FIRST)
    rows = books.rows_in(store, STEP, FIRST, cells)
    assert sorted(books.pack(store, STEP, FIRST, rows, cells)) == sorted(cells)


@pytest.mark.usefixtures("few")
def test_sums_and_the_largest(tmp_path: Path) -> None:
    """What records add up to is the same packed, on their own, and where there are both."""
    store = full(tmp_path)
    again = store.grid.block(0, (1, 1, 1))
    for _ in range(2):
        found = tally(store, STEP)
        assert (found.blocks, found.voxels, found.seconds) == (8, 8000, 4.0)
        assert found.counts == {"merges": 28}
        of_largest = {"merges": 7, "largest": 93, "largest_voxels": 7}
        assert largest(store, STEP, "largest_voxels") == of_largest
        store.write_record(STEP, again, {}, of_largest, 0.5)
    assert largest(store, STEP, "others") == {}


@pytest.mark.usefixtures("few")
def test_a_record_is_found_while_it_is_packed(tmp_path: Path) -> None:
    """Who knows an older pack finds a block that has just been packed, at any moment."""
    store = full(tmp_path)
    cells = list(store.grid.cells(0))
    reader, missed, over = Store.open(store.files.url), [], threading.Event()

    def look() -> None:
        while not over.is_set():
            known = Lookup(reader.files, reader.manifest.pyramid)
            missed.extend(cell for _ in range(3) for cell in cells if not found(known, cell))
            missed.extend(STEP for _ in range(3) if tally(reader, STEP).blocks != 8)

    def found(known: Lookup, cell: Zyx) -> bool:
        known._records.clear()
        return known.record(STEP, cell, "abc") is not None

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(40):
        for cell in cells[number % 5 :]:
            store.write_record(STEP, store.grid.block(0, cell), {}, {"merges": number}, 0.5)
        pack(store)
    over.set()
    thread.join()
    assert missed == []


@pytest.mark.usefixtures("few")
def test_every_record_is_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far the driver is with packing, every block is done, once."""
    remove, moments = LocalFiles.remove, []

    def removing(files: LocalFiles, name: str) -> None:
        remove(files, name)
        store = Store.open(files.url)
        moments.append(sum(store.record(STEP, cell) is not None for cell in store.grid.cells(0)))
        moments.append(tally(store, STEP).blocks)

    monkeypatch.setattr(LocalFiles, "remove", removing)
    full(tmp_path)
    assert moments == [8] * 16


@pytest.mark.usefixtures("few")
def test_an_older_pack_is_read_again(tmp_path: Path) -> None:
    """A block that is not in the pack that a process knows is looked for in the one there is."""
    store = full(tmp_path)
    reader = Store.open(store.files.url)
    books.withdraw(store, "a", [(0, 0, 0)])
    assert reader.record(STEP, (1, 1, 1)) is not None
    assert reader.record(STEP, FIRST) is store.record(STEP, FIRST) is None
    store.write_record(STEP, store.grid.block(0, FIRST), {}, {}, 0.5)
    pack(store)
    assert reader.record(STEP, FIRST) == store.record(STEP, FIRST)
    assert store.record(STEP, FIRST) is not None
    books.withdraw(store, "a", store.grid.cells(0))
    assert packed(tmp_path) == {}


def flipped(path: Path) -> None:
    """Change one bit in the middle of a pack."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def foreign(path: Path) -> None:
    """Replace a pack by that of another super-cell."""
    files = LocalFiles(path.parents[2])
    known = packs.read(files, "a", FIRST)
    assert known is not None
    packs.write(files, "a", (0, 0, 1), known.identity, known.rows)
    path.with_name("0.0.1.columns").rename(path)


def other_columns(path: Path) -> None:
    """Replace a pack by a file of columns that is none."""
    with LocalFiles(path.parent).batch() as batch, batch.writing(path.name) as sink:
        writer = ColumnWriter(sink)
        writer.append("basins", {"id": np.arange(3)})
        writer.close()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("damage", [flipped, foreign, other_columns])
def test_a_damaged_pack(damage: Callable[[Path], None], tmp_path: Path) -> None:
    """Blocks of a pack that is changed, or another's, are computed again, and the file is named."""
    store = full(tmp_path)
    path = tmp_path / pack_name("a", FIRST)
    damage(path)
    reader = Store.open(tmp_path)
    assert all(reader.record(STEP, cell) is None for cell in reader.grid.cells(0))
    found = run_steps(tmp_path, [STEP], quiet(serial=True))["a"]
    assert (found.done, found.failed) == (8, 0)
    (sentence,) = found.lost
    assert sentence.startswith("records/a/0.0.0.columns: it ")
    assert len(list((tmp_path / "toy-attempts").iterdir())) == 8
    assert packs.read(store.files, "a", FIRST) is not None


@pytest.mark.usefixtures("few")
def test_a_pack_of_an_older_stage(tmp_path: Path) -> None:
    """Packed records of something else than what the stage is now are none."""
    full(tmp_path)
    store = Store.open(tmp_path)
    other = Origin(identity="xyz", inputs={})
    manifests.write(store.files, store.manifest.model_copy(update={"stages": {"toy": other}}))
    store = Store.open(tmp_path)
    assert tally(store, STEP).blocks == 0
    assert store.record(STEP, FIRST) is None
    assert run_steps(tmp_path, [STEP], quiet(serial=True))["a"].lost == []
    assert len(list((tmp_path / "toy-attempts").iterdir())) == 8
    assert tally(store, STEP).blocks == 8


@pytest.mark.usefixtures("few")
def test_damage_under_packed_records(affs: Path, whole: Path, tmp_path: Path) -> None:
    """Files that packed records list are looked for, compared, and made again, as others are."""
    out = tmp_path / "o.zarr"
    real.segment(affs, out, until="fragments")
    assert "0.0.0.columns" in packed(out)
    missing, changed = out / "fragments/c/0/1/1", out / "tables/climb/0.0.0/0.0.1.columns"
    missing.unlink()
    changed.write_bytes(changed.read_bytes()[:-20] + 20 * b"9")
    report = real.segment(affs, out)
    assert data(out) == data(whole)
    assert sorted(line.partition(": ")[0] for line in report.warnings) == [
        str(missing),
        str(changed),
    ]


def data(out: Path) -> dict[str, object]:
    """What a run has made, without records."""
    return {name: made for name, made in real.contents(out).items() if name[:7] != "records"}
