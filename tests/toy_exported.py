"""A small network that is exported, its description, and archives of it that were tampered with."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from cadseg.models import exported

if TYPE_CHECKING:
    from collections.abc import Callable

Tree = dict[str, Any]
UNITS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
VOLUME: Tree = {
    "dimensions": 3,
    "context": [[2, 2], [6, 6], [6, 6]],
    "multiple": [1, 2, 2],
    "grey": [-1.0, 1.0],
    "offsets": [[-3, 0, 0], [0, 0, -1], [-1, 0, 0], [0, -1, 0]],
    "affinity": [1.0, 0.0],
}
FREE = {2: Dim("z", min=1, max=90), 3: 2 * Dim("y", min=1, max=90), 4: 2 * Dim("x", min=1)}


class Volume(nn.Module):
    """A small 3D network, with what exports contain: norms, pooling, upsampling, padding, text."""

    def __init__(self) -> None:
        """Draw weights."""
        super().__init__()
        torch.manual_seed(0)
        self.enter = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(inplace=True)
        )
        self.middle = nn.Conv3d(4, 4, 3, padding=1)
        self.leave = nn.Conv3d(4, 4, 1)
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Boundaries [1, 4, D, Y, X] of [1, 1, D, Y, X]."""
        x = self.enter(x)
        low = self.middle(F.max_pool3d(x, (1, 2, 2)))
        x = x + F.interpolate(F.gelu(low, approximate="tanh"), size=x.shape[2:], mode="trilinear")
        return torch.sigmoid(self.leave(x) * self.scale)


def export(
    path: Path, network: nn.Module, shape: tuple[int, ...], dims: Tree | None, tree: Tree
) -> Path:
    """The network and its description at `path`."""
    dynamic = None if dims is None else (dims,)
    program = torch.export.export(network.eval(), (torch.rand(shape),), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    path.with_suffix(".yaml").write_text(yaml.safe_dump(tree))
    return path


def copied(path: Path, folder: Path) -> Path:
    """A copy of a network that may be changed."""
    for file in exported.files(path):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / path.name


class Touch:
    """An object that would create a file if it was unpickled."""

    def __init__(self, path: Path) -> None:
        """Remember what to create."""
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        """Say how to create it."""
        return Path.touch, (self.path,)


def rewritten(path: Path, changes: dict[str, bytes | Callable[[bytes], bytes]]) -> None:
    """Replace or add members of an archive, each by bytes or by a function of what it holds."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(members)).partition("/")[0]
    for name, change in changes.items():
        key = f"{root}/{name}"
        members[key] = change if isinstance(change, bytes) else change(members[key])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def edited(change: Callable[[Tree], object]) -> Callable[[bytes], bytes]:
    """A change of the data in a member."""

    def apply(content: bytes) -> bytes:
        tree = json.loads(content)
        change(tree)
        return json.dumps(tree).encode()

    return apply


MODEL = "models/model.json"
