"""What a stage's result depends on is its identity, all of it, and nothing else."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import real_run as real

from cadseg import config as configs
from cadseg.pipeline.identity import changes, identities
from cadseg.pipeline.prepare import prepare
from cadseg.workers.stages import STAGES

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]

# key: another value, and the first stage that it changes
SCIENTIFIC: dict[str, tuple[object, str]] = {
    "block_shape": ([9, 9, 9], "predict"),
    "volume.roi": ([[0, 2], [0, 2], [0, 2]], "predict"),
    "volume.grey_range": ([0, 9], "predict"),
    "volume.mask": ("mask.zarr", "fragments"),
    "predict.tile": ([64, 64], "predict"),
    "predict.halo": (160, "predict"),
    "predict.exact_tiling": (False, "predict"),
    "predict.batch": (2, "predict"),
    "predict.threads": (2, "predict"),
    "fragments.distance_clip": (9, "fragments"),
    "fragments.sigma": (1.5, "fragments"),
    "fragments.boundary_weight": (1.0, "fragments"),
    "fragments.dimensions": (3, "fragments"),
    "agglomerate.engine": ("waterz", "agglomerate"),
    "agglomerate.scoring": ("mean", "agglomerate"),
    "agglomerate.min_affinity": (0.2, "agglomerate"),
    "segment.threshold": (0.9, "segment"),
    "segment.min_voxels": (9, "segment"),
    "segment.pyramid_levels": (9, "segment"),
}
# by content, not by name: the volume's voxel size and fingerprint, the weights' hash, the device
BY_CONTENT = {"volume.voxel_size", "predict.weights", "predict.device"}
NO_IDENTITY = {
    "predict.keep_affinities",
    "agglomerate.memory_gb",
    "agglomerate.percolation_share",
}


def keys(tree: Json, prefix: str = "") -> list[str]:
    """All keys of a config, dotted."""
    found = []
    for key, value in tree.items():
        inner = isinstance(value, dict)
        found += keys(value, f"{prefix}{key}.") if inner else [prefix + key]
    return found


def changed(key: str, value: object) -> Json:
    """A config in which one key is another."""
    tree = configs.load("ssem").model_dump(mode="json")
    *section, last = key.split(".")
    node = tree[section[0]] if section else tree
    assert node[last] != value
    node[last] = value
    return tree


def names(tree: Json, extra: Json | None = None) -> dict[str, str]:
    """The identity of every stage."""
    made = identities(tuple(STAGES.values()), tree, extra or {})
    return {name: stage.identity for name, stage in made.items()}


PLAIN = names(configs.load("ssem").model_dump(mode="json"))


def test_every_key_is_known() -> None:
    """Each key of the config belongs to a stage's identity, or is known not to."""
    tree = configs.load("ssem").model_dump(mode="json")
    assert sorted(keys(tree)) == sorted({*SCIENTIFIC, *BY_CONTENT, *NO_IDENTITY})


@pytest.mark.parametrize("key", SCIENTIFIC)
def test_a_key_changes_its_stage_and_those_below(key: str) -> None:
    """Stages above the one that reads a key stay as they are; it and all below it change."""
    value, first = SCIENTIFIC[key]
    found = names(changed(key, value))
    same = [name for name in found if found[name] == PLAIN[name]]
    order = list(PLAIN)
    assert same == order[: order.index(first)]


@pytest.mark.parametrize("key", sorted({*BY_CONTENT, *NO_IDENTITY}))
def test_other_keys_change_nothing(key: str) -> None:
    """Where weights lie, or how much memory there is, is no part of any identity."""
    value = {"volume.voxel_size": [1.0, 2.0, 3.0], "predict.weights": "x", "predict.device": "cpu"}
    assert names(changed(key, value.get(key, 0.9))) == PLAIN


def test_inputs_beside_the_config_count() -> None:
    """The weights' hash changes the prediction and all below; a mask's content the fragments."""
    tree = configs.load("ssem").model_dump(mode="json")
    found = names(tree, {"predict": {"weights_sha256": "ab"}})
    assert [name for name in found if found[name] == PLAIN[name]] == []
    found = names(tree, {"fragments": {"mask": {"samples": "ab"}}})
    assert [name for name in found if found[name] == PLAIN[name]] == ["predict"]


def test_stages_can_be_added_below() -> None:
    """The identity of the last stage is the same, whether found alone or with those above."""
    tree = configs.load("ssem").model_dump(mode="json")
    alone = identities((STAGES["segment"],), tree, {}, PLAIN["agglomerate"])
    assert alone["segment"].identity == PLAIN["segment"]


def test_changes_name_old_and_new() -> None:
    """Each key that differs is named, with what it was and what it is now."""
    was, now = {"a": 1, "b": 2, "c.d": [3]}, {"a": 1, "b": 5, "e": None, "c.d": [4]}
    assert changes(was, now) == ["b (was 2, now 5)", "c.d (was [3], now [4])"]


def test_what_is_read_counts(tmp_path: Path) -> None:
    """Content, type, chunks and voxel size of a volume count; its place does not."""
    data = real.affinities()
    other = data.copy()
    other[1, 3, 5, 7] += 1

    def made(name: str, *sets: str, data: Any = data, **more: Any) -> str:
        path = real.volume(tmp_path / name, data, **more)
        prepared = prepare(str(path), source="affinities", config="ssem", overrides=sets)
        return prepared.store.identity("fragments")

    first = made("a.zarr")
    assert made("b.zarr") == first
    assert made("c.zarr", data=other) != first
    assert made("d.zarr", data=data / 255) != first
    assert made("e.zarr", chunks=(3, 2, 42, 48)) != first
    mask = real.volume(tmp_path / "mask.zarr", data[0])
    masked = made("f.zarr", f"volume.mask={mask}")
    assert masked != first
    shutil.rmtree(mask)
    real.volume(mask, other[1])
    assert made("g.zarr", f"volume.mask={mask}") not in (first, masked)
