"""Weights files: a network's weights together with the configuration that rebuilds it.

A file is safetensors: float32 tensors by name, and in the metadata one entry ``cadseg``, a `Header`
as JSON. (One entry, because safetensors writes several in random order, and equal weights shall be
equal files.) Loading needs nothing else and runs no code from the file. Batch norm's running
statistics are part of the weights. Networks that others exported are files of another form,
`cadseg.models.exported`, but loaded by the same function.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from cadseg import config as configs
from cadseg.config import Strict
from cadseg.errors import WeightsError
from cadseg.models import exported
from cadseg.models.network import Needs, Network
from cadseg.models.student import Student, StudentConfig
from cadseg.models.teacher import Teacher, TeacherConfig
from cadseg.storage.local_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

SUFFIX = ".safetensors"

KINDS: dict[str, tuple[type[Strict], type[Network]]] = {
    Student.kind: (StudentConfig, Student),
    Teacher.kind: (TeacherConfig, Teacher),
}
"""Kinds of networks, each with the configuration that rebuilds it."""

_ENTRY = "cadseg"  # of the metadata
COUNTER = "num_batches_tracked"  # of batch norm; plays no part in inference, so not kept

N = TypeVar("N", bound=Network)


class Header(Strict):
    """What a weights file says beside its tensors.

    Attributes:
        kind: of the network, one of `KINDS`.
        config: the network's configuration, as plain data.
        card: free text, which may be empty.
    """

    kind: str
    config: dict[str, Any]
    card: str


def save(path: Path, network: Network, card: str = "") -> None:
    """Write `network` to `path`, whole or not at all; `card` is free text about it."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _kept(network).items()}
    config = network.config.model_dump(mode="json")
    metadata = {_ENTRY: Header(kind=network.kind, config=config, card=card).model_dump_json()}
    write_whole(path, safetensors_bytes(tensors, metadata=metadata))


def load(path: Path) -> Network:
    """The network in `path`, of whatever kind, on the CPU, in evaluation mode.

    Raises:
        WeightsError: no such file, not a network's weights, or tensors that are not the network's.
    """
    if path.suffix == exported.SUFFIX:
        return exported.load(path)
    return filled(_empty(path), _tensors(path), path)


def load_as(kind: type[N], path: Path) -> N:
    """The same, if it is of that kind.

    Raises:
        WeightsError: as `load`, or a network of another kind.
    """
    network = load(path)
    if not isinstance(network, kind):
        raise WeightsError(
            f"{path} holds a network of kind {network.kind}; accepted are weights of a {kind.kind}"
        )
    return network


def needs(path: Path) -> Needs:
    """What the network in `path` must be shown; reads no tensor.

    Raises:
        WeightsError: no such file, or not a network's weights.
    """
    return exported.load(path).needs if path.suffix == exported.SUFFIX else _empty(path).needs


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
        raise WeightsError(
            f"{path}: in its header {configs.sentence(error)}; accepted are files that this "
            "version wrote"
        ) from None


def find(name_or_path: str) -> Path:
    """The file of weights of that name in the package (``default-ssem``), or at that path.

    Raises:
        WeightsError: neither is there.
    """
    folder = Path(str(resources.files("cadseg.models")))
    named = folder / f"{name_or_path}{SUFFIX}"
    found = "no such file"
    try:
        for path in (named, Path(name_or_path)):
            if path.is_file():
                return path
    except (OSError, ValueError) as error:  # no name that a file can have
        found = f"cannot be read ({error})"
    names = sorted(path.stem for path in folder.glob(f"*{SUFFIX}"))
    raise WeightsError(
        f"weights {name_or_path}: {found}; accepted are a {SUFFIX} or {exported.SUFFIX} file "
        f"or one of {', '.join(names)}"
    )


def sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits: the identity of its weights.

    That of an exported network covers its description, too: of the one and then the other.
    """
    digest = hashlib.sha256()
    for part in exported.files(path) if path.suffix == exported.SUFFIX else (path,):
        digest.update(part.read_bytes())
    return digest.hexdigest()


def _kept(network: Network) -> dict[str, Tensor]:
    state = network.state_dict()
    return {name: tensor for name, tensor in state.items() if COUNTER not in name}


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def _empty(path: Path) -> Network:
    """The network that `path` is of, without memory for its weights."""
    head = header(path)
    if head.kind not in KINDS:
        raise WeightsError(
            f"{path} holds a network of kind {head.kind}; accepted are {', '.join(KINDS)}"
        )
    config, network = KINDS[head.kind]
    try:
        with torch.device("meta"):
            return network(config.model_validate(configs.tuples(head.config)))
    except ValidationError as error:
        raise WeightsError(f"{path}: in its header's config {configs.sentence(error)}") from None
    except (RuntimeError, TypeError, OverflowError):  # lengths beyond what torch can count
        raise WeightsError(
            f"{path}: its header asks for an impossible network, {head.config}; accepted are files "
            "that cadseg wrote"
        ) from None


def filled(network: N, tensors: Mapping[str, Tensor], path: Path) -> N:
    """A network without memory filled with these weights.

    Raises:
        WeightsError: with the first tensor that does not fit.
    """
    wanted: dict[str, Tensor] = _kept(network)
    for name in [*wanted, *tensors]:
        ours, theirs = _described(wanted.get(name)), _described(tensors.get(name))
        if ours != theirs:
            raise WeightsError(
                f"{path}: tensor {name} has {theirs}, this network has {ours}; accepted: weights "
                f"of a network with {network.config}"
            )
        if not tensors[name].isfinite().all():
            raise WeightsError(
                f"{path}: tensor {name} holds values that are not finite; accepted are numbers"
            )
    network.to_empty(device="cpu")
    counters = {name: torch.zeros_like(t) for name, t in network.state_dict().items()}
    network.load_state_dict({**counters, **tensors})
    return network.eval()


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "no such tensor"
    return f"shape {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
