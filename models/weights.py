"""Weights files: a network's weights together with the configuration that rebuilds it.

A file is safetensors: float32 tensors by name, and in the metadata one entry ``cadseg``, a `Header`
as JSON. (One entry, because safetensors writes several in random order, and equal weights shall be
equal files.) Loading needs nothing else and runs no code from the file. `load` takes students,
which segment volumes; `load_teacher` takes teachers, which teach them. Batch norm's running
statistics are part of the weights.

The checkpoints that CAD's authors published (PyTorch pickles; Liu et al., CVPR 2024) can be
imported; reading them is limited to tensors and plain values.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from cadseg.config import Strict
from cadseg.errors import WeightsError
from cadseg.models.student import Student, StudentConfig
from cadseg.models.teacher import Teacher, TeacherConfig
from cadseg.storage.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SUFFIX = ".safetensors"

_ENTRY = "cadseg"  # of the metadata
_COUNTER = "num_batches_tracked"  # of batch norm; plays no part in inference, so not kept

# Where the authors' names differ from ours; longest first, applied to the beginning of a name.
_PUBLISHED = {
    "down.0.mpconv.1.conv.": "down0.",
    "down.1.mpconv.1.conv.": "down1.",
    "down.2.mpconv.1.conv.": "down2.",
    "down.3.mpconv.1.conv.": "down3.",
    "up3_tn.conv.conv.": "upper.up3.",
    "up4_tn.conv.conv.": "upper.up4.",
    "up3_t.conv.conv.": "lower.up3.",
    "up4_t.conv.conv.": "lower.up4.",
    "inc.conv.conv.": "stem.",
    "up1.conv.conv.": "up1.",
    "up2.conv.conv.": "up2.",
    "outc_tn.conv.": "upper.out.",
    "outc_t.conv.": "lower.out.",
}


Network = Student | Teacher
N = TypeVar("N", Student, Teacher)


class Header(Strict):
    """What a weights file says beside its tensors; `card` is free text, and may be empty."""

    config: StudentConfig | TeacherConfig
    card: str


def save(path: Path, network: Network, card: str = "") -> None:
    """Write `network` to `path`, whole or not at all; `card` is free text about it."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _kept(network).items()}
    metadata = {_ENTRY: Header(config=network.config, card=card).model_dump_json()}
    write_whole(path, safetensors_bytes(tensors, metadata=metadata))


def load(path: Path) -> Student:
    """The student in `path`, on the CPU, in evaluation mode.

    Raises:
        WeightsError: no such file, not a student's weights, or tensors that are not the network's.
    """
    return _loaded(path, Student, "student")


def load_teacher(path: Path) -> Teacher:
    """The teacher in `path`; else as `load`."""
    return _loaded(path, Teacher, "teacher")


def header(path: Path) -> Header:
    """What the file says beside its tensors.

    Raises:
        WeightsError: not a weights file, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get(_ENTRY)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as a {SUFFIX} file: {error}") from None
    if found is None:
        raise WeightsError(
            f"{path} has no network configuration; accepted are files that cadseg wrote"
        )
    try:
        return Header.model_validate_json(found)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise WeightsError(f"{path}: the header's {key}: {first['msg']}") from None


def import_published(checkpoint: Path, out: Path) -> None:
    """Convert a checkpoint of CAD's authors into a weights file; it computes what theirs does.

    Raises:
        WeightsError: not such a checkpoint, or one that would run code while it is read.
    """
    try:
        with warnings.catch_warnings():  # of pickles that are refused right after
            warnings.simplefilter("ignore", UserWarning)
            tree = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{checkpoint} would run code while it is read, or is no PyTorch checkpoint; "
            "accepted are checkpoints of tensors and plain values alone"
        ) from None
    except (OSError, RuntimeError, EOFError) as error:
        raise WeightsError(f"{checkpoint} cannot be read: {str(error).splitlines()[0]}") from None
    published = tree.get("model_weights") if isinstance(tree, dict) else None
    if not isinstance(published, dict):
        raise WeightsError(
            f"{checkpoint} has no entry model_weights; accepted are checkpoints of CAD's students"
        )
    tensors = {
        _our_name(name): tensor for name, tensor in published.items() if _COUNTER not in name
    }
    with torch.device("meta"):
        student = Student(StudentConfig(align_corners=True))
    student = _filled(student, tensors, checkpoint)
    save(out, student, card=f"published by CAD's authors: {checkpoint.name}")


def find(name_or_path: str) -> Path:
    """The weights file of that name in the package (``default-ssem``), or at that path.

    Raises:
        WeightsError: neither is there.
    """
    folder = Path(str(resources.files("cadseg.models")))
    named = folder / f"{name_or_path}{SUFFIX}"
    for path in (named, Path(name_or_path)):
        if path.is_file():
            return path
    names = sorted(path.stem for path in folder.glob(f"*{SUFFIX}"))
    raise WeightsError(
        f"weights {name_or_path}: no such file; accepted are a {SUFFIX} file "
        f"or one of {', '.join(names)}"
    )


def sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits: the identity of its weights."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kept(network: Network) -> dict[str, Tensor]:
    state = network.state_dict()
    return {name: tensor for name, tensor in state.items() if _COUNTER not in name}


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def _loaded(path: Path, kind: Callable[[Any], N], noun: str) -> N:
    """The network in `path`, if it is of that kind."""
    config = header(path).config
    found = "student" if isinstance(config, StudentConfig) else "teacher"
    if found != noun:
        raise WeightsError(f"{path} holds a {found}; accepted are weights of a {noun}")
    with torch.device("meta"):
        network = kind(config)
    return _filled(network, _tensors(path), path)


def _filled(network: N, tensors: Mapping[str, Tensor], path: Path) -> N:
    """A network without memory filled with these weights, or the first tensor that does not fit."""
    wanted: dict[str, Tensor] = _kept(network)
    for name in [*wanted, *tensors]:
        ours, theirs = _described(wanted.get(name)), _described(tensors.get(name))
        if ours != theirs:
            raise WeightsError(
                f"{path}: tensor {name} has {theirs}, this network has {ours}; accepted: weights "
                f"of a network with {network.config}"
            )
    network.to_empty(device="cpu")
    counters = {name: torch.zeros_like(t) for name, t in network.state_dict().items()}
    network.load_state_dict({**counters, **tensors})
    return network.eval()


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "no such tensor"
    return f"shape {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _our_name(published: str) -> str:
    for theirs, ours in _PUBLISHED.items():
        if published.startswith(theirs):
            return ours + published.removeprefix(theirs)
    return published
