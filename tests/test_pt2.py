"""Archives of exported networks: what is pickled in them is never unpickled."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from toy_exported import VOLUME, Touch, Tree, copied, edited, rewritten

from cadseg.errors import WeightsError
from cadseg.models import weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def pickled_weight(tree: Tree) -> None:
    """Say that the first tensor is a pickle."""
    next(iter(tree["config"].values()))["use_pickle"] = True


def custom(prefix: str) -> Callable[[Tree], None]:
    """Name an object that is no tensor."""

    def change(tree: Tree) -> None:
        tree["config"]["thing"] = {
            "path_name": f"{prefix}_0", "is_param": False, "use_pickle": True, "tensor_meta": None,
        }  # fmt: skip

    return change


WEIGHTS, CONSTANTS = (f"data/{name}/model_{name}_config.json" for name in ("weights", "constants"))
# members that hold the pickle, changes of others, and the sentence; None: it is never looked at
PLANTED: dict[str, tuple[str, dict[str, Callable[[Tree], object]], str | None]] = {
    "example inputs": ("data/sample_inputs/model.pt", {}, None),
    "old weights": ("data/weights/model.pt", {}, None),
    "old constants": ("data/constants/model.pt", {}, None),
    "a weight": ("data/weights/weight_0", {WEIGHTS: pickled_weight}, "is pickled"),
    "an object": ("data/constants/custom_obj_0", {CONSTANTS: custom("custom_obj")}, "is pickled"),
    "opaque": ("data/constants/opaque_obj_0", {CONSTANTS: custom("opaque_obj")}, "is pickled"),
    "a constant": ("data/constants/tensor_0", {CONSTANTS: pickled_weight}, "is pickled"),
    "extra": ("extra/module_info.json", {}, None),
    "compiled": ("data/aotinductor/model/model.so", {}, None),
}


@pytest.mark.parametrize("save", ["pickle", "torch"])
@pytest.mark.parametrize("place", PLANTED)
def test_nothing_is_unpickled(place: str, save: str, pt2: Path, tmp_path: Path) -> None:
    """A pickle that would run code is not opened, wherever in the archive it lies."""
    path, trace = copied(pt2, tmp_path), tmp_path / "trace"
    buffer = io.BytesIO()
    (pickle.dump if save == "pickle" else torch.save)(Touch(trace), buffer)
    member, changes, sentence = PLANTED[place]
    rewritten(path, {member: buffer.getvalue(), **{n: edited(c) for n, c in changes.items()}})
    if sentence is None:
        weights.load(path)
    else:
        with pytest.raises(WeightsError, match=sentence):
            weights.load(path)
    assert not trace.exists()


def test_the_older_form_is_not_unpickled(tmp_path: Path) -> None:
    """An archive as PyTorch wrote it before is refused, and its pickles are not opened."""
    path, trace = tmp_path / "old.pt2", tmp_path / "trace"
    path.with_suffix(".yaml").write_text(yaml.safe_dump(VOLUME))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_exported_program.json", "{}")
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickle.dumps(Touch(trace)))
    with pytest.raises(WeightsError, match="cannot be run"):
        weights.load(path)
    assert not trace.exists()


def test_pytorch_would_run_it(pt2: Path, tmp_path: Path) -> None:
    """The planted pickles are such as PyTorch's own reader unpickles: the tests above see them."""
    path, trace = copied(pt2, tmp_path), tmp_path / "trace"
    buffer = io.BytesIO()
    torch.save(Touch(trace), buffer)
    rewritten(path, {"data/sample_inputs/model.pt": buffer.getvalue()})
    with pytest.raises(Exception, match=r".*"):
        torch.export.load(path)
    assert trace.exists()
