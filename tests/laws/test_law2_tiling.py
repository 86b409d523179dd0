"""Law 2: tiling changes nothing.

The same affinities, byte for byte, for every block shape; within one grey level for every tile
shape, where the halo is the network's reach.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import real_run as real
import zarr
from torch import Tensor, nn
from toy_exported import FREE, UNITS, VOLUME, export

from cadseg.models import weights
from cadseg.models.predict import Predictor
from cadseg.pipeline import run
from cadseg.pipeline.execution.progress import Progress

Array = np.ndarray[Any, Any]
Zyx = tuple[int, int, int]

HERE = run.Execution(serial=True, progress=Progress(quiet=True))
ONLY = ("affinities", "records")  # what only one of the two runs has, or has otherwise
LOOSE = "predict.exact_tiling=false"  # halos that are smaller than the context
BLOCKS: tuple[Zyx, ...] = ((7, 96, 384), (1, 64, 128), (3, 33, 70), (2, 10, 330))


def predicted(raw: Array, student: Path, folder: Path, *sets: str) -> Array:
    """Affinities of a raw volume, by a run."""
    number = next(n for n in itertools.count() if not (folder / f"{n}.zarr").exists())
    volume = folder / "raw.zarr"
    if not volume.exists():
        real.volume(volume, raw)
    report = run.predict(
        str(volume),
        HERE,
        out=folder / f"{number}.zarr",
        config="ssem",
        until="predict",
        overrides=[f"predict.weights={student}", *sets],
    )
    made: Array = zarr.open_group(report.out, mode="r")["affinities"][:]
    return made


@pytest.mark.parametrize("batch", [1, 2])
def test_blocks_change_nothing(batch: int, student: Path, fib25_raw: Array, tmp_path: Path) -> None:
    """Blocks that cut tiles and groups of section pairs give the same bytes."""
    raw = fib25_raw[:5, :70, :150]
    sets = ("predict.tile=[64, 64]", "predict.halo=16", f"predict.batch={batch}", LOOSE)
    made = [
        predicted(raw, student, tmp_path, *sets, f"block_shape={list(block)}") for block in BLOCKS
    ]
    assert np.unique(made[0]).size > 200
    assert [np.array_equal(made[0], other) for other in made] == [True] * len(BLOCKS)


class Average(nn.Module):
    """A network that answers with the average of its window, blown up: with what it is shown."""

    def forward(self, x: Tensor) -> Tensor:
        """The same number everywhere, [1, 3, D, Y, X] of [1, 1, D, Y, X]."""
        return (x.mean((2, 3, 4), keepdim=True) * 100).frac().expand(1, 3, *x.shape[2:])


def test_tiles_lie_in_the_volume(fib25_raw: Array, tmp_path: Path) -> None:
    """A network that gives away its window gives the same whatever block asks, along each axis."""
    tree = VOLUME | {"offsets": UNITS, "grey": [0.0, 1.0]}
    weights = export(tmp_path / "average.pt2", Average(), (1, 1, 4, 8, 8), FREE, tree)
    sets = ("predict.tile=[8, 10]", "predict.halo=2", "predict.batch=3", LOOSE)
    blocks = ((11, 40, 50), (2, 40, 50), (11, 7, 50), (11, 40, 13), (4, 9, 12))
    made = [
        predicted(fib25_raw[:11, :40, :50], weights, tmp_path, *sets, f"block_shape={list(block)}")
        for block in blocks
    ]
    assert np.unique(made[0]).size > 50
    assert [np.array_equal(made[0], other) for other in made] == [True] * len(blocks)
    tiles = made[0][:, 3:6, 8:16, 10:20]
    assert np.unique(tiles).size == 1


def test_sections_are_paired_with_those_below(
    student: Path, fib25_raw: Array, tmp_path: Path
) -> None:
    """A section is predicted with the one below it; the first of a volume with the next."""
    raw = fib25_raw[:4, :64, :64]
    network = Predictor(student)
    pairs = [np.stack([raw[1 if z == 0 else z - 1], raw[z]]) for z in range(4)]
    expected = np.concatenate([network(pair) for pair in pairs], axis=1)
    for axis in range(3):
        expected[axis].swapaxes(0, axis)[0] = 0
    sets = ("predict.tile=[64, 64]", "block_shape=[2, 64, 64]")
    assert np.array_equal(predicted(raw, student, tmp_path, *sets), expected)
    alone = network(np.stack([raw[0], raw[0]]))[1:, 0, 1:, 1:]
    assert not np.array_equal(alone, expected[1:, 0, 1:, 1:])  # what it would be by itself


@pytest.mark.parametrize("turned", [False, True])
def test_tiles_change_nothing(
    turned: bool, student: Path, fib25_raw: Array, tmp_path: Path
) -> None:
    """Tiles of any shape, with the network's reach as halo, agree to within one grey level."""
    long = np.concatenate([fib25_raw[:2, :40], fib25_raw[:2, 40:80]], axis=2)[..., :410]
    raw = long.swapaxes(1, 2) if turned else long
    made = {
        length: predicted(raw, student, tmp_path, f"predict.tile=[{length}, {length}]")
        for length in (416, 48, 128)
    }
    assert np.unique(made[416]).size > 200
    for other in made.values():
        assert np.abs(made[416].astype(int) - other).max() <= 1


def test_too_small_a_halo_would_be_seen(student: Path, fib25_raw: Array, tmp_path: Path) -> None:
    """With a halo of a quarter of the reach, tiles differ: the law above does not hold for free."""
    raw = np.ascontiguousarray(fib25_raw[:2, :40])
    tiles = ([256, 256], [48, 48])
    one, two = (
        predicted(raw, student, tmp_path, "predict.halo=32", LOOSE, f"predict.tile={tile}")
        for tile in tiles
    )
    assert np.abs(one.astype(int) - two).max() > 1


def test_a_part_is_predicted_as_in_the_whole(
    student: Path, fib25_raw: Array, tmp_path: Path
) -> None:
    """A roi has the affinities of the whole volume, but for its first faces, which join nothing."""
    raw = fib25_raw[:4, :70, :150]
    whole = predicted(raw, student, tmp_path)
    part = predicted(raw, student, tmp_path, "volume.roi=[[1, 4], [10, 70], [33, 120]]")
    for axis, first in enumerate((1, 10, 33)):
        assert not np.take(part[axis], first, axis).any()
        np.moveaxis(whole[axis], axis, 0)[first] = 0
    inner = (slice(None), slice(1, 4), slice(10, 70), slice(33, 120))
    assert np.array_equal(part[inner], whole[inner])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 17, 5), (3, 1, 40), (2, 33, 31)])
def test_odd_volumes(shape: Zyx, student: Path, fib25_raw: Array, tmp_path: Path) -> None:
    """Volumes smaller than a tile, one voxel thick, or a multiple of nothing simply work."""
    raw = fib25_raw[tuple(slice(n) for n in shape)]
    one, cut = (
        predicted(raw, student, tmp_path, f"block_shape={list(block)}")
        for block in ((9, 64, 64), (1, 16, 3))
    )
    assert one.shape == (3, *shape)
    assert np.array_equal(one, cut)
    for axis in range(3):
        assert not np.take(one[axis], 0, axis).any()


def test_from_raw_to_segments(student: Path, fib25_raw: Array, tmp_path: Path) -> None:
    """Raw as uint16 in a grey range gives what its bytes give, up to the segmentation."""
    raw = fib25_raw[:3, :50, :60]
    eight = real.volume(tmp_path / "eight.zarr", raw)
    sixteen = real.volume(tmp_path / "sixteen.zarr", raw.astype(np.uint16) * 100 + 500)
    sets = [f"predict.weights={student}", "block_shape=[2, 32, 32]", "segment.threshold=1.0"]
    grey = "volume.grey_range=[500, 26000]"
    one = run.predict(str(eight), HERE, config="ssem", overrides=sets).segmentation
    two = run.predict(str(sixteen), HERE, config="ssem", overrides=[*sets, grey]).segmentation
    segments = [zarr.open_array(path, mode="r")[:] for path in (one, two)]
    assert np.array_equal(*segments)
    assert np.unique(segments[0]).size > 1


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, fib25_raw: Array) -> Path:
    """A small teacher whose answers use the whole range."""
    return real.teacher(tmp_path_factory.mktemp("weights") / "t.safetensors", fib25_raw)


def mirrored(raw: Array, *shape: int) -> Array:
    """A volume of that shape, made of `raw` and its mirror images."""
    more = [(0, max(0, n - m)) for n, m in zip(shape, raw.shape, strict=True)]
    return np.pad(raw, more, mode="reflect")[tuple(slice(n) for n in shape)]


@pytest.mark.parametrize("batch", [2, 5])
def test_blocks_change_nothing_in_3d(
    batch: int, teacher: Path, fib25_raw: Array, tmp_path: Path
) -> None:
    """Blocks that cut the teacher's tiles, along z too, give the same bytes."""
    raw = fib25_raw[:7, :40, :70]
    sets = ("predict.tile=[16, 32]", "predict.halo=16", f"predict.batch={batch}", LOOSE)
    blocks = ((7, 48, 96), (1, 16, 32), (3, 33, 50))
    made = [
        predicted(raw, teacher, tmp_path, *sets, f"block_shape={list(block)}") for block in blocks
    ]
    assert np.unique(made[0]).size > 200
    assert [np.array_equal(made[0], other) for other in made] == [True] * len(blocks)
    for axis in range(3):
        assert not np.take(made[0][axis], 0, axis).any()


def test_sections_per_tile_change_nothing(teacher: Path, fib25_raw: Array, tmp_path: Path) -> None:
    """The teacher's context across sections is enough: tiles of few sections agree with one."""
    raw = mirrored(fib25_raw[:, :16, :16], 60, 16, 16)
    one, many = (
        predicted(raw, teacher, tmp_path, "predict.halo=176", f"predict.batch={batch}")
        for batch in (60, 7)
    )
    assert np.unique(one).size > 200
    assert np.abs(one.astype(int) - many).max() <= 1


@pytest.mark.parametrize("turned", [False, True])
def test_tiles_change_nothing_in_3d(
    turned: bool, teacher: Path, fib25_raw: Array, tmp_path: Path
) -> None:
    """Tiles of the teacher, with its context as halo, agree to within one grey level."""
    long = mirrored(fib25_raw[:3, :16], 3, 16, 540)
    raw = long.swapaxes(1, 2) if turned else long
    sets = ("predict.halo=176", "predict.batch=3")
    one, many = (
        predicted(raw, teacher, tmp_path, *sets, f"predict.tile={tile}")
        for tile in ([544, 544], [160, 160])
    )
    assert np.unique(one).size > 200
    assert np.abs(one.astype(int) - many).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
def test_the_network_that_ships(batch: int, fib25_raw: Array, tmp_path: Path) -> None:
    """Both laws for the weights that ship, on a real volume."""
    raw = np.ascontiguousarray(fib25_raw[:3, :40])
    default = weights.find("default-ssem")
    sets = (f"predict.batch={batch}", "block_shape=[2, 32, 96]", "predict.tile=[48, 48]")
    one, cut, small = (
        predicted(
            raw, default, tmp_path, *sets[: n + 1], *(() if n else ("predict.tile=[256, 256]",))
        )
        for n in range(3)
    )
    assert np.array_equal(cut, predicted(raw, default, tmp_path, sets[0]))
    assert np.abs(one.astype(int) - small).max() <= 1


def test_keeping_affinities_changes_nothing(
    student: Path, fib25_raw: Array, tmp_path: Path
) -> None:
    """A run that never writes affinities ends with the same bytes as one that keeps them."""
    real.volume(tmp_path / "raw.zarr", fib25_raw[:4, :100, :120])
    sets = [f"predict.weights={student}", "predict.tile=[32, 48]", "predict.halo=32", LOOSE]
    outs = []
    for keep in ("true", "false"):
        report = run.predict(
            str(tmp_path / "raw.zarr"),
            HERE,
            out=tmp_path / f"{keep}.zarr",
            config="ssem",
            overrides=[*real.SETS, *sets, f"predict.keep_affinities={keep}"],
        )
        outs.append(Path(report.out))
    kept, fused = (
        {name: data for name, data in real.contents(out).items() if not name.startswith(ONLY)}
        for out in outs
    )
    assert kept == fused
    assert (outs[0] / "affinities").exists()
    assert not (outs[1] / "affinities").exists()
