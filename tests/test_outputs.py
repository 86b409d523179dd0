"""A run's arrays: writing then reading is exact, whole blocks alone are written, damage is seen."""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_arrays import grey, whole

from cadseg.blocks import Grid, Roi, zyx
from cadseg.errors import OutputError
from cadseg.storage import group, outputs
from cadseg.storage.checksums import ABSENT, DamagedError
from cadseg.storage.local_files import LocalFiles
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.storage.checksums import Written


def put(array: outputs.OutputArray, cover: Roi, data: np.ndarray[Any, Any]) -> dict[str, Written]:
    """Write whole shards."""
    with array.files.batch() as batch:
        return array.write(batch, cover, data)


lengths = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=30, deadline=None)
@given(shape=lengths, block=lengths, channels=st.sampled_from([(), (3,)]), seed=st.integers(0, 9))
def test_there_and_back(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    block: tuple[int, int, int],
    channels: tuple[int, ...],
    seed: int,
) -> None:
    """What blocks write, in any order, is what is read, by us and by zarr; one file per block."""
    out = tmp_path_factory.mktemp("out")
    grid = Grid(shape, Roi((0, 0, 0), shape), block)
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 3, (*channels, *shape)).astype("uint64") * 2**40
    files = LocalFiles(out)
    made = outputs.create_output(
        files, "a", lead=channels, shape=shape, dtype="uint64", shard=block
    )
    for index in rng.permutation(grid.count(0)):
        cover = grid.block(0, list(grid.cells(0))[index]).cover
        put(outputs.open_output(files, "a"), cover, data[(..., *cover.slices())])
    assert (made.read(whole(data)) == data).all()
    assert (zarr.open_array(out / "a")[:] == data).all()
    files = [p for p in (out / "a" / "c").rglob("*") if p.is_file()] if data.any() else []
    assert len(files) <= grid.count(0)


def test_a_write_replaces_one_file_and_reads_none(tmp_path: Path) -> None:
    """A shard is written over a broken one, also at the border; all 0 removes the file."""
    made = outputs.create_output(
        LocalFiles(tmp_path / "o"), "a", shape=(9, 20, 20), dtype="u1", shard=(8, 16, 16)
    )
    covers = [
        Roi(zyx(b), zyx(np.minimum(np.add(b, (8, 16, 16)), (9, 20, 20))))
        for b in itertools.product((0, 8), (0, 16), (0, 16))
    ]
    data = grey(9, 20, 20)
    for cover in covers:
        put(made, cover, data[cover.slices()])
    files = sorted(p for p in (tmp_path / "o" / "a" / "c").rglob("*") if p.is_file())
    assert len(files) == len(covers)
    for path in files:
        path.write_bytes(b"broken")
    before = {path: path.stat().st_ino for path in files}
    for cover in covers:
        put(made, cover, data[cover.slices()])
    assert (made.read(whole(data)) == data).all()
    assert all(path.stat().st_ino != inode for path, inode in before.items())
    put(made, covers[-1], np.zeros(covers[-1].shape, np.uint8))
    assert not files[-1].exists()
    assert (made.read(covers[-1]) == 0).all()


def made_in(folder: Path, shape: tuple[int, int, int]) -> outputs.OutputArray:
    """An array of bytes in shards of 8 x 16 x 16 voxels."""
    return outputs.create_output(
        LocalFiles(folder), "a", shape=shape, dtype="uint8", shard=(8, 16, 16)
    )


def test_only_whole_blocks_are_written(tmp_path: Path) -> None:
    """A box that cuts a shard, or data of another type or shape, is refused."""
    made = made_in(tmp_path, (8, 32, 32))
    box = Roi((0, 0, 0), (8, 16, 16))
    with pytest.raises(AssertionError, match="cuts shards"):
        put(made, Roi((0, 0, 0), (8, 16, 8)), grey(8, 16, 8))
    with pytest.raises(AssertionError, match="is not uint8"):
        put(made, box, grey(8, 16, 16, dtype="u8"))
    with pytest.raises(AssertionError, match=r"\(8, 16, 8\)"):
        put(made, box, grey(8, 16, 8))


def test_a_flipped_bit_of_an_output_is_seen(tmp_path: Path) -> None:
    """With one bit of any byte of an output changed, reading it fails, and names the file."""
    made = made_in(tmp_path, (8, 16, 16))
    box = Roi((0, 0, 0), (8, 16, 16))
    (written,) = put(made, box, grey(8, 16, 16) // 64).values()
    path = tmp_path / "a" / "c" / "0" / "0" / "0"
    good = path.read_bytes()
    assert written.length == len(good)
    for place in range(len(good)):
        content = bytearray(good)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(DamagedError, match="a/c/0/0/0: it"):
            made.read(box, lambda _: written)


def test_another_shard_is_no_shard(tmp_path: Path) -> None:
    """A sound shard that is not the one that was written, a cut one, and none at all are seen."""
    made = made_in(tmp_path, (8, 16, 32))
    one, two = (Roi((0, 0, x), (8, 16, x + 16)) for x in (0, 16))
    (first,) = put(made, one, grey(8, 16, 16)).values()
    put(made, two, grey(8, 16, 16) + 1)
    folder = tmp_path / "a" / "c" / "0" / "0"
    assert (made.read(one, lambda _: first) == grey(8, 16, 16)).all()
    good = (folder / "0").read_bytes()
    (folder / "1").rename(folder / "0")
    with pytest.raises(DamagedError, match="is not what its block wrote"):
        made.read(one, lambda _: first)
    for length in (0, 3, len(good) - 1):
        (folder / "0").write_bytes(good[:length])
        with pytest.raises(DamagedError, match="a/c/0/0/0: it"):
            made.read(one, lambda _: first)
    (folder / "0").unlink()
    with pytest.raises(DamagedError, match="it is missing"):
        made.read(one, lambda _: first)
    assert (made.read(one, lambda _: ABSENT) == 0).all()


def test_making_an_output_again_keeps_it(tmp_path: Path) -> None:
    """An array that is there is kept, its metadata are mended; a foreign folder is refused."""
    box = Roi((0, 0, 0), (8, 16, 16))

    def make(out: str, dtype: str = "uint8") -> outputs.OutputArray:
        return outputs.create_output(
            LocalFiles(tmp_path / out), "s/0", shape=box.shape, dtype=dtype, shard=box.shape
        )

    put(make("o"), box, grey(8, 16, 16))
    assert (make("o").read(box) == grey(8, 16, 16)).all()
    metadata = tmp_path / "o" / "s" / "0" / "zarr.json"
    sound = metadata.read_bytes()
    for spoilt in (b"", b"[]", b"{}", sound[:-9], sound.replace(b"uint8", b"int16")):
        metadata.write_bytes(spoilt)
        assert (make("o").read(box) == grey(8, 16, 16)).all()
        assert metadata.read_bytes() == sound
    LocalFiles(tmp_path / "o").remove("s/0")
    assert (make("o", "uint64").read(box) == 0).all()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match="was not written by cadseg"):
        make("foreign")
    assert not group.is_ours(LocalFiles(tmp_path / "foreign"))
    assert group.is_ours(LocalFiles(tmp_path / "o"))
    assert os.listdir(tmp_path / "foreign") == ["thesis.tex"]


@pytest.mark.parametrize(("layout", "age"), [(1, "an older"), (3, "a newer")])
def test_a_run_of_another_version_is_refused(layout: int, age: str, tmp_path: Path) -> None:
    """A run whose files another version has arranged is refused in one sentence, and stays."""
    files = LocalFiles(tmp_path / "o")
    group.ensure_group(files)
    metadata = tmp_path / "o" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"layout": 2', f'"layout": {layout}'))
    before = metadata.read_bytes()
    with pytest.raises(OutputError, match=f"is a run of {age} version of cadseg"):
        group.ensure_group(files)
    with pytest.raises(OutputError, match="choose another --out"):
        Store.open(tmp_path / "o")
    assert metadata.read_bytes() == before


def test_damaged_metadata_of_a_group_are_written_anew(tmp_path: Path) -> None:
    """A group whose metadata are damaged is a run's if its manifest is; added attributes stay."""
    files = LocalFiles(tmp_path / "o")
    group.ensure_group(files)
    metadata = tmp_path / "o" / "zarr.json"
    sound = metadata.read_bytes()
    (tmp_path / "o" / "run.json").write_text('{"cadseg": "1"}')
    for spoilt in (b"", b"null", b'{"zarr_format": 3'):
        metadata.write_bytes(spoilt)
        group.ensure_group(files)
        assert metadata.read_bytes() == sound
    tree = json.loads(sound)
    tree["attributes"]["mine"] = 1
    metadata.write_text(json.dumps(tree))
    group.ensure_group(files)
    assert json.loads(metadata.read_bytes()) == tree
