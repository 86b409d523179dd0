"""The checkpoints that CAD's authors published (Liu et al., CVPR 2024), as weights files of ours.

They are PyTorch pickles; reading them is limited to tensors and plain values.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cadseg.errors import WeightsError
from cadseg.models import weights
from cadseg.models.student import Student, StudentConfig
from cadseg.storage.damage import reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def import_published(checkpoint: Path, out: Path) -> None:
    """Convert a checkpoint of CAD's authors into a weights file; it computes what theirs does.

    Raises:
        WeightsError: not such a checkpoint, or one that would run code while it is read.
    """
    try:
        tree = _tree(checkpoint)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{checkpoint} would run code while it is read, or is no PyTorch checkpoint; "
            "accepted are checkpoints of tensors and plain values alone"
        ) from None
    except Exception as error:  # broken files raise whatever they lead to
        raise WeightsError(f"{checkpoint} cannot be read ({reason(error)})") from None
    tensors = {
        _our_name(name): tensor
        for name, tensor in _entries(tree, checkpoint)
        if weights.COUNTER not in name
    }
    with torch.device("meta"):
        student = Student(StudentConfig(align_corners=True))
    student = weights.filled(student, tensors, checkpoint)
    weights.save(out, student, card=f"published by CAD's authors: {checkpoint.name}")


def _tree(checkpoint: Path) -> object:
    """What a checkpoint holds."""
    if zipfile.is_zipfile(checkpoint):
        with zipfile.ZipFile(checkpoint) as archive:
            damaged = archive.testzip()  # PyTorch looks at no checksum
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
    with warnings.catch_warnings():  # of pickles that are refused right after
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(checkpoint, map_location="cpu", weights_only=True)


def _entries(tree: object, checkpoint: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a checkpoint, by their names."""
    published = tree.get("model_weights") if isinstance(tree, dict) else None
    if not isinstance(published, dict):
        raise WeightsError(
            f"{checkpoint} has no entry model_weights; accepted are checkpoints of CAD's students"
        )
    for name, tensor in published.items():
        dense = isinstance(tensor, Tensor) and tensor.layout is torch.strided and tensor.is_cpu
        if not isinstance(name, str) or not dense:
            raise WeightsError(
                f"{checkpoint}: its entry {name} is no dense tensor; accepted are checkpoints of "
                "CAD's students"
            )
        yield name, tensor


def _our_name(published: str) -> str:
    for theirs, ours in _PUBLISHED.items():
        if published.startswith(theirs):
            return ours + published.removeprefix(theirs)
    return published
