"""Weights, exported networks, and checkpoints of others."""

from __future__ import annotations

import json
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import torch
import toy_exported
from safetensors.torch import load_file

from cadseg.models import weights
from cadseg.models.student import Student, StudentConfig
from fuzzing import mutations
from fuzzing.case import Case
from fuzzing.texts import spoilt_yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random


def prepare(folder: Path) -> None:
    """A small student, a small exported network, and parts of a published checkpoint."""
    folder.mkdir()
    torch.manual_seed(0)
    weights.save(folder / "tiny.safetensors", Student(StudentConfig(filters=1, embedding=2)))
    toy_exported.export(
        folder / "volume.pt2",
        toy_exported.Volume(),
        (1, 1, 4, 8, 8),
        toy_exported.FREE,
        toy_exported.VOLUME,
    )
    student = Student(StudentConfig(align_corners=True)).state_dict()
    torch.save({"model_weights": student, "valid_result": {"voi": 1.0}}, folder / "theirs.ckpt")


def weights_file(random: Random, folder: Path) -> Case:
    """Weights whose header or bytes are changed."""
    data = (folder / "inputs/networks/tiny.safetensors").read_bytes()
    path = folder / "case" / "x.safetensors"
    length = int.from_bytes(data[:8], "little")
    header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]
    how = random.random()
    if how < 0.3:
        data = mutations.in_bytes(random, data)
    elif how < 0.4:
        data = mutations.in_bytes(random, data[: 8 + length + 64]) + tensors[64:]
    else:
        if how < 0.8:
            ours = mutations.in_json(random, header["__metadata__"]["cadseg"].encode())
            header["__metadata__"]["cadseg"] = ours.decode("utf-8", "replace")
        else:
            header = mutations.in_tree(random, header)
        text = json.dumps(header).encode("utf-8", "surrogatepass")
        data = len(text).to_bytes(8, "little") + text + tensors
    path.write_bytes(data)

    def check(_: object) -> None:
        found = weights.load(path).state_dict()
        for name, tensor in load_file(path).items():
            assert torch.equal(found[name], tensor)

    return Case(_predict(folder, path), check, data[:500])


def exported_network(random: Random, folder: Path) -> Case:
    """An exported network, or what describes it, with something changed."""
    path = toy_exported.copied(folder / "inputs/networks/volume.pt2", folder / "case")
    how = random.random()
    if how < 0.3:
        beside = path.with_suffix(".yaml")
        beside.write_bytes(spoilt_yaml(random, beside.read_bytes()))
    elif how < 0.4:
        path.write_bytes(mutations.in_bytes(random, path.read_bytes()))
    else:
        member = random.choice(("models/model.json",) * 3 + CONFIGS)
        toy_exported.rewritten(path, {member: lambda data: mutations.in_json(random, data)})
    return Case(_predict(folder, path))


CONFIGS = (
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
    "data/weights/weight_0",
)


def checkpoint(random: Random, folder: Path) -> Case:
    """A checkpoint of others that is changed in what it holds, or byte by byte."""
    sound = folder / "inputs/networks/theirs.ckpt"
    path = folder / "case" / "x.ckpt"
    how = random.random()
    if how < 0.2:
        path.write_bytes(mutations.in_bytes(random, sound.read_bytes()))
    elif how < 0.5:
        _rezipped(sound, path, lambda data: mutations.in_bytes(random, data))
    else:
        tree = torch.load(sound, weights_only=True)
        tree = _spoilt_tensors(random, tree)
        try:
            torch.save(tree, path, _use_new_zipfile_serialization=random.random() < 0.8)
        except (RuntimeError, NotImplementedError, OverflowError):
            path.write_bytes(pickle.dumps(repr(tree)))
    out = folder / "case" / "out.safetensors"

    def check(_: object) -> None:
        assert isinstance(weights.load(out), Student)

    return Case(("weights", "import", path, out), check)


def _rezipped(path: Path, to: Path, change: Callable[[bytes], bytes]) -> None:
    """A copy of an archive with the pickle in it changed."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) if name.endswith("data.pkl") else data)


def _spoilt_tensors(random: Random, tree: dict[str, Any]) -> Any:
    theirs = tree["model_weights"]
    name = random.choice(list(theirs))
    odd = (
        *(None, 5, "x", [], {}, theirs[name].numpy().tolist(), theirs),
        *(theirs[name].double(), theirs[name].half(), theirs[name].to_sparse(), theirs[name][None]),
        *(torch.empty(0), torch.tensor(float("nan")), theirs[name].to("meta"), theirs[name] > 0),
        *(
            torch.complex(theirs[name].float(), theirs[name].float()),
            theirs[name].expand(2, *theirs[name].shape),
        ),
        torch.nn.Parameter(theirs[name].float()),
    )
    how = random.randrange(7)
    if how == 0:
        return random.choice(
            (theirs, list(theirs), None, 5, [tree], {"model_weights": list(theirs)})
        )
    if how == 1:
        theirs[random.choice((5, None, (1, 2), 2.5, True, "", "a" * 300, "\ud800"))] = theirs.pop(
            name
        )
    elif how == 2:
        del theirs[name]
    elif how == 3:
        theirs[f"{name}x"] = theirs[name]
    elif how == 4:
        tree["valid_result"] = random.choice(odd)
    else:
        theirs[name] = random.choice(odd)
    return tree


def _predict(folder: Path, network: Path) -> tuple[object, ...]:
    tiles = ("--set=predict.exact_tiling=false", "--set=predict.halo=16")
    return ("plan", folder / "inputs/raw.zarr", f"--weights={network}", "--config=ssem", *tiles)
