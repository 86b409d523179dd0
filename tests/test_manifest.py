"""A run's manifest: there and back, and one sentence where it cannot be read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from cadseg.errors import OutputError
from cadseg.pipeline.prepare import prepare, recut
from cadseg.storage.local_files import LocalFiles
from cadseg.workers import manifest
from cadseg.workers.store import Store

sys.path.append(str(Path(__file__).parent))

import real_run as real

if TYPE_CHECKING:
    from cadseg.workers.manifest import Manifest

SEGMENT = (*real.SMALL, "--until=fragments", "--serial")


@pytest.fixture(scope="module")
def out(affs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of it, as far as its fragments."""
    out = tmp_path_factory.mktemp("out") / "o.zarr"
    assert real.cadseg("segment", affs, "--out", out, *SEGMENT).code == 0
    return out


def planned(affs: Path, out: Path) -> Manifest:
    """The manifest of a run that has not begun."""
    overrides = ["segment.pyramid_levels=2", "volume.roi=[[0, 3], [1, 9], [2, 9]]"]
    return prepare(
        str(affs), source="affinities", out=out, config="ssem", overrides=overrides
    ).store.manifest


def tree(affs: Path, out: Path) -> dict[str, Any]:
    """The same as plain data."""
    files = LocalFiles(out)
    manifest.write(files, planned(affs, out))
    found: dict[str, Any] = json.loads(files.read(manifest.NAME))
    return found


def test_there_and_back(affs: Path, tmp_path: Path) -> None:
    """What is written is what is read, to the last type."""
    made, files = planned(affs, tmp_path), LocalFiles(tmp_path)
    assert manifest.read(files) is None
    manifest.write(files, made)
    assert manifest.read(files) == made
    assert Store.open(tmp_path).manifest == made


def test_a_manifest_does_not_change(affs: Path, tmp_path: Path) -> None:
    """A manifest is frozen; a run cut elsewhere has another one, with the same tree."""
    store = prepare(str(affs), source="affinities", out=tmp_path, config="ssem").store
    with pytest.raises(ValidationError, match="frozen"):
        store.manifest.volume = "elsewhere"
    other = recut(store, 0.9).store.manifest
    assert other.config.segment.threshold == 0.9 != store.config.segment.threshold
    changed = {name for name in other.stages if other.stages[name] != store.manifest.stages[name]}
    assert changed == {"segment"}


def test_the_file_names_its_schema_first(affs: Path, tmp_path: Path) -> None:
    """The first key of ``run.json`` is the version of its keys."""
    assert next(iter(tree(affs, tmp_path).items())) == ("schema", 1)


DAMAGES: dict[str, tuple[Any, str]] = {
    "not JSON": (lambda run: json.dumps(run)[:-20], "not a JSON object"),
    "not text": (lambda run: b"\xff\xfe", "not a JSON object"),
    "nothing": (lambda run: "", "not a JSON object"),
    "a list": (lambda run: json.dumps([run]), "not a JSON object"),
    "another schema": (lambda run: json.dumps(run | {"schema": 2}), "schema is 2; accepted is 1"),
    "no schema": (
        lambda run: json.dumps({key: run[key] for key in run if key != "schema"}),
        "the key schema is missing",
    ),
    "an unknown key": (lambda run: json.dumps(run | {"more": 1}), "there is no key more"),
    "a missing key": (
        lambda run: json.dumps({key: run[key] for key in run if key != "shape"}),
        "the key shape is missing",
    ),
    "a key of the config": (
        lambda run: json.dumps(run | {"config": run["config"] | {"segment": {}}}),
        "the key config.segment.threshold is missing",
    ),
    "a wrong type": (lambda run: json.dumps(run | {"shape": "large"}), "shape is 'large'"),
    "two axes": (lambda run: json.dumps(run | {"shape": [3, 4]}), "shape"),
    "no voxel": (lambda run: json.dumps(run | {"roi": [[0, 0]] * 3}), "roi 0:0,0:0,0:0 holds no"),
    "beyond": (lambda run: json.dumps(run | {"roi": [[0, 9999]] * 3}), "leaves the volume"),
    "a word": (lambda run: json.dumps(run | {"source": "film"}), "accepted is 'raw' or"),
}


def test_a_manifest_without_its_stages_is_one_sentence(out: Path) -> None:
    """A run that does not say what its stages were computed from is refused by who must know."""
    path = out / manifest.NAME
    sound = path.read_text()
    stages = json.loads(sound)["stages"]
    for spoilt in ({}, stages | {"agglomerate": stages["agglomerate"] | {"inputs": {}}}):
        path.write_text(json.dumps(json.loads(sound) | {"stages": spoilt}))
        for command in (("status", out), ("relabel", out, "--threshold=0.9")):
            if spoilt and command[0] == "status":
                continue  # which asks for no inputs
            said = real.cadseg(*command)
            assert (said.code, said.err.count("\n")) == (2, 1)
            assert said.err.startswith(f"Error: output {out}: ")
    path.write_text(sound)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_one_sentence(damage: str, affs: Path, out: Path) -> None:
    """Every command that needs the run's manifest says what is wrong with it, and ends with 2."""
    spoil, part = DAMAGES[damage]
    path = out / manifest.NAME
    sound = path.read_text()
    spoilt = spoil(json.loads(sound))
    path.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
    for command in (
        ("status", out),
        ("relabel", out, "--threshold=0.9"),
        ("segment", affs, "--out", out, *SEGMENT, "--set=fragments.sigma=0.4"),
    ):
        said = real.cadseg(*command)
        assert said.code == 2
        assert said.err.startswith(f"Error: output {out}: run.json cannot be read: ")
        assert part in said.err
        assert said.err.count("\n") == 1
    with pytest.raises(OutputError):
        Store.open(out)
    path.write_text(sound)
    assert real.cadseg("status", out).code == 0
