"""Configs: complete, strict at every level, changed key by key, frozen."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from cadseg import config as configs
from cadseg.errors import ConfigError

FOLDER = Path(configs.__file__).resolve().parents[1] / "configs"


def tree() -> dict[str, Any]:
    """The config for ssEM as plain data."""
    return configs.load("ssem").model_dump()


def leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        k: v
        for key, sub in node.items()
        for k, v in leaves(sub, f"{prefix}.{key}".strip(".")).items()
    }


def levels(node: dict[str, Any], prefix: str = "") -> list[str]:
    """All places where a key can stand: the top, and each section."""
    sections = [f"{prefix}{key}." for key, sub in node.items() if isinstance(sub, dict)]
    return [prefix, *(level for s in sections for level in levels(node[s.split(".")[-2]], s))]


def parent(node: dict[str, Any], key: str) -> dict[str, Any]:
    for part in key.split(".")[:-1]:
        node = node[part]
    return node


@pytest.mark.parametrize("name", configs.builtin_names())
def test_shipped_configs_are_complete(name: str) -> None:
    """A config that ships holds every key, each with a comment of its own, and loads."""
    assert leaves(configs.load(name).model_dump()).keys() == leaves(tree()).keys()
    text = FOLDER.joinpath(f"{name}.yaml").read_text("utf-8").splitlines()
    for above, line in itertools.pairwise(text):
        if re.match(r" +\w+: \S", line):
            assert above.lstrip().startswith("#"), line


def test_there_is_a_config_per_kind_of_data() -> None:
    """Serial sections and isotropic volumes; recipes for training are no configs of a run."""
    assert configs.builtin_names() == ["fibsem", "ssem"]


@pytest.mark.parametrize("level", levels(tree()))
def test_an_unknown_key_is_refused_at_every_level(level: str) -> None:
    """A key too many stops the run, and the sentence names it."""
    config = tree()
    parent(config, f"{level}tresholds")["tresholds"] = 1
    with pytest.raises(ConfigError, match=re.escape(f"there is no key {level}tresholds")):
        configs.from_tree(config, "test")


@pytest.mark.parametrize("key", leaves(tree()))
def test_a_missing_key_is_refused(key: str) -> None:
    """No number is decided in code: a file that leaves a key out is refused, with its name."""
    config = tree()
    del parent(config, key)[key.split(".")[-1]]
    with pytest.raises(ConfigError, match=f"the key {re.escape(key)} is missing"):
        configs.from_tree(config, "test")


@pytest.mark.parametrize(
    "override",
    [
        "segment.threshold=1.01",
        "segment.threshold=-0.1",
        "segment.threshold=.nan",
        "segment.threshold='0.5'",
        "segment.pyramid_levels=-1",
        "segment.pyramid_levels=2.0",
        "agglomerate.min_affinity=2",
        "agglomerate.scoring=mode",
        "agglomerate.engine=fast",
        "agglomerate.memory_gb=0",
        "fragments.distance_clip=0",
        "fragments.distance_clip=65",
        "fragments.sigma=0",
        "fragments.sigma=8.5",
        "fragments.dimensions=1",
        "fragments.boundary_weight=-1",
        "fragments.boundary_weight=17",
        "predict.threads=0",
        "predict.batch=true",
        "predict.tile=[512]",
        "predict.device=tpu",
        "predict.halo=-1",
        "block_shape=[0, 1, 1]",
        "block_shape=[64, 64]",
        "volume.voxel_size=[1, 2]",
        "volume.roi=[[0, 1], [0, 1]]",
    ],
)
def test_a_value_out_of_range_is_refused(override: str) -> None:
    """Where, what was found and what is accepted, in one sentence without a traceback."""
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=re.escape(key)) as error:
        configs.load("ssem", [override])
    short = re.fullmatch(r"\w+\.?\w*=\[.*\]", override) and "is missing" in str(error.value)
    assert short or "accepted is" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ("segment.threshold=0.25", "agglomerate.min_affinity=0.3"),
            "config ssem: segment.threshold is 0.25, below agglomerate.min_affinity, 0.3,",
        ),
        (
            ("agglomerate.engine=waterz", "predict.keep_affinities=false"),
            "config ssem: agglomerate.engine is waterz, which reads affinities,",
        ),
    ],
)
def test_keys_that_exclude_each_other_are_refused(overrides: list[str], sentence: str) -> None:
    """Each value is accepted by itself, but not both: the sentence names the two keys."""
    for override in overrides:
        configs.load("ssem", [override])
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        configs.load("ssem", overrides)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("segment.threshold=0.25", 0.25),
        ("segment.threshold=1", 1.0),
        ("block_shape=[16, 128, 128]", (16, 128, 128)),
        ("volume.voxel_size=[33.3, 4, 4]", (33.3, 4.0, 4.0)),
        ("volume.roi=[[0, 5], [1, 6], [2, 7]]", ((0, 5), (1, 6), (2, 7))),
        ("volume.mask=null", None),
        ("volume.mask=s3://bucket/a=b.zarr", "s3://bucket/a=b.zarr"),
        ("agglomerate.scoring=mean", "mean"),
    ],
)
def test_set_changes_one_key_and_no_other(override: str, value: Any) -> None:
    """--set takes a YAML value, gives it to its key, and leaves all others."""
    key = override.partition("=")[0]
    before, after = leaves(tree()), leaves(configs.load("ssem", [override]).model_dump())
    assert after.pop(key) == value
    del before[key]
    assert after == before


def test_the_last_set_wins() -> None:
    """Overrides apply in their order."""
    config = configs.load("ssem", ["segment.threshold=0.2", "segment.threshold=0.3"])
    assert config.segment.threshold == 0.3


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("segment.threshold", "no '='"),
        ("segment.treshold=1", "accepted are threshold, min_voxels, pyramid_levels"),
        ("treshold=1", "accepted are block_shape, volume"),
        ("segment.threshold.x=1", "there is no key segment.threshold.x"),
        ("a.b.c=1", "there is no key a.b.c"),
        ("segment.threshold=[1", "the value is not YAML"),
    ],
)
def test_a_wrong_set_is_refused(override: str, sentence: str) -> None:
    """An override without a value, or of a key that is not there, is refused with what there is."""
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        configs.load("ssem", [override])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: [1", "not YAML"),
        (b"\xff\xfe", "not YAML"),
        (b"- 1\n- 2\n", "holds no keys"),
        (b"", "holds no keys"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    """A file that is not YAML, or no mapping, is refused by name."""
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"mine.yaml: .*{sentence}"):
        configs.load(str(file))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The sentence names the configs that ship."""
    with pytest.raises(ConfigError, match=r"no such file; .* fibsem, ssem"):
        configs.load(str(tmp_path / "none.yaml"))


def test_a_config_written_out_loads_as_itself(tmp_path: Path) -> None:
    """A config of the user's own: to YAML and back is the identity."""
    config = configs.load("fibsem", ["volume.roi=[[0, 5], [1, 6], [2, 7]]"])
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert configs.load(str(file)) == config


def test_a_config_does_not_change() -> None:
    """No one can change a number after the run has begun."""
    config = configs.load("ssem")
    with pytest.raises(ValidationError, match="frozen"):
        config.segment.threshold = 0.1  # type: ignore[misc]
