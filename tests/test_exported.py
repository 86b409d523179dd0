"""Networks of anyone's own: they predict as they are described, and run no code of theirs."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
import zarr
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from cadseg.errors import WeightsError
from cadseg.models import exported, weights
from cadseg.models.affinity import affinities
from cadseg.models.predict import predicted
from cadseg.models.student import Student

sys.path.append(str(Path(__file__).parent))

import real_run as real

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


class Pairs(nn.Module):
    """The student as a network of two sections that gives affinities."""

    def __init__(self, student: Student) -> None:
        """Wrap it."""
        super().__init__()
        self.student = student

    def forward(self, x: Tensor) -> Tensor:
        """Affinities [B, 3, Y, X] of [B, 2, Y, X]."""
        return affinities(*self.student(x))


def export(
    path: Path, network: nn.Module, shape: tuple[int, ...], dims: Tree | None, tree: Tree
) -> Path:
    """The network and its description at `path`."""
    dynamic = None if dims is None else (dims,)
    program = torch.export.export(network.eval(), (torch.rand(shape),), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    path.with_suffix(".yaml").write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of volumes of any size, at a path that nobody changes."""
    path = tmp_path_factory.mktemp("exported") / "volume.pt2"
    return export(path, Volume(), (1, 1, 4, 8, 8), FREE, VOLUME)


def copied(path: Path, folder: Path) -> Path:
    """A copy of a network that may be changed."""
    for file in exported.files(path):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / path.name


def test_it_predicts_what_pytorch_does(volume: Path) -> None:
    """Affinities are the described channels of the network's output, in the described range."""
    raw = np.random.default_rng(0).integers(0, 256, (5, 12, 18), np.uint8)
    found = predicted(weights.load(volume), raw)
    with torch.inference_mode():
        out = Volume().eval()(torch.from_numpy(raw).float()[None, None] / 127.5 - 1)[0]
    expected = (1 - out[[2, 3, 1]]).clamp(0, 1).numpy() * 255
    assert np.abs(found - expected).max() < 0.51
    assert np.ptp(found) > 50


def test_a_run_of_a_volume_network(volume: Path, tmp_path: Path) -> None:
    """The worker runs it as any other network: neither blocks nor tiles show."""
    raw = np.random.default_rng(1).integers(0, 256, (7, 40, 50), np.uint8)
    real.volume(tmp_path / "raw.zarr", raw)
    made = []
    for name, sets in (
        ("one", ("predict.tile=[64, 64]", "predict.batch=9")),
        ("many", ("predict.tile=[16, 10]", "predict.batch=2", "block_shape=[3, 21, 24]")),
    ):
        words = [f"--set={key}" for key in (*sets, "predict.halo=6")]
        said = real.cadseg(
            *("predict", tmp_path / "raw.zarr", "--weights", volume, "--serial"),
            *("--out", tmp_path / name, "--until=predict", *words),
        )
        assert said.code == 0, said.err
        made.append(zarr.open_group(tmp_path / name, mode="r")["affinities"][:])
    assert np.abs(made[0].astype(int) - made[1]).max() <= 1
    assert np.ptp(made[0]) > 50


@pytest.mark.parametrize("batch", [1, None])
def test_sections_as_channels(batch: int | None, tmp_path: Path) -> None:
    """The student, exported with two sections for channels, gives the student's bytes."""
    raw = np.random.default_rng(2).integers(0, 256, (12, 96, 96), np.uint8)
    student = weights.load_as(Student, real.student(tmp_path / "s.safetensors", raw))
    tree = {
        "dimensions": 2,
        "context": [[1, 0], [123, 122], [123, 122]],
        "multiple": [1, 16, 16],
        "grey": [0.0, 1.0],
        "offsets": UNITS,
        "affinity": [0.0, 1.0],
    }
    plain = {2: 16 * Dim("y", min=1), 3: 16 * Dim("x", min=1)}
    dims = plain if batch else {0: Dim("b"), **plain}
    path = export(tmp_path / "pairs.pt2", Pairs(student), (batch or 3, 2, 32, 32), dims, tree)
    network = weights.load(path)
    assert network.needs.mirrored == student.needs.mirrored
    window = raw[:5, :48, :32]
    difference = predicted(network, window).astype(int) - predicted(student, window)
    assert np.abs(difference).max() <= 1


def test_a_fixed_shape(tmp_path: Path) -> None:
    """A network of one input shape sees windows of that shape alone, and its own sections."""
    path = export(tmp_path / "fixed.pt2", Volume(), (1, 1, 6, 16, 16), None, VOLUME)
    needs = weights.needs(path)
    assert needs.lengths == ((6, 6), (16, 16), (16, 16))
    assert needs.mirrored == (True, True, True)
    raw = np.zeros((6, 16, 16), np.uint8)
    assert predicted(weights.load(path), raw).shape == (3, 2, 16, 16)
    real.volume(tmp_path / "raw.zarr", np.zeros((4, 20, 24), np.uint8))
    command = ("predict", tmp_path / "raw.zarr", "--weights", path, "--set=predict.halo=6")
    said = real.cadseg(*command, "--set=predict.tile=[4, 4]", "--set=predict.batch=3")
    assert said.code == 2
    assert "take windows of 6 voxels along z, but with predict.batch 3" in said.err
    fits = ("--set=predict.tile=[4, 4]", "--set=predict.batch=2", "--until=predict", "--serial")
    assert real.cadseg(*command, *fits).code == 0


def test_the_identity_covers_the_description(volume: Path, tmp_path: Path) -> None:
    """Whether the network changes or what is said of it, the weights are others."""
    path = copied(volume, tmp_path)
    before = weights.sha256(path)
    assert before == weights.sha256(volume)
    path.with_suffix(".yaml").write_text(yaml.safe_dump(VOLUME | {"affinity": [0.0, 1.0]}))
    assert weights.sha256(path) != before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dimensions": 4}, "dimensions is 4; accepted is 2 or 3"),
        ({"channels": 3}, "there is no key channels"),
        ({"grey": [1.0, 1.0]}, "grey is 1.0, 1.0; accepted are two different values"),
        ({"offsets": UNITS[:2]}, "offsets"),
        ({"offsets": [*UNITS[:2], [0, 0, 1]]}, r"offsets name 0 channels .* along x"),
        ({"offsets": [*UNITS, UNITS[0]]}, r"offsets name 2 channels .* along z"),
        ({"offsets": UNITS}, r"output has the shape \[1, 4, .* accepted is \[1, 3, "),
        ({"context": [None, [6, 6], [6, 6]]}, r"context.0 is None"),
        ({"context": [[2, -1], [6, 6], [6, 6]]}, r"context.0.1 is -1"),
        ({"dimensions": 2}, "5 axes; accepted with dimensions 2 are 4"),
    ],
)
def test_a_description_that_does_not_fit(
    changes: Tree, sentence: str, volume: Path, tmp_path: Path
) -> None:
    """Each problem of a description is one sentence, with the file and the key."""
    path = copied(volume, tmp_path)
    path.with_suffix(".yaml").write_text(yaml.safe_dump(VOLUME | changes))
    with pytest.raises(WeightsError, match=sentence) as caught:
        weights.load(path)
    assert "volume.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/networks.md exports a network that is as it says."""
    text = (Path(__file__).parents[1] / "docs" / "networks.md").read_text("utf-8")
    code, description = (
        text.partition(f"```{language}\n")[2].partition("```")[0] for language in ("python", "yaml")
    )
    monkeypatch.chdir(tmp_path)
    exec(code)
    Path("my.yaml").write_text(description)
    assert weights.needs(Path("my.pt2")).context == ((2, 2), (2, 2), (2, 2))
    window = np.zeros((5, 6, 7), np.uint8)
    assert predicted(weights.load(Path("my.pt2")), window).shape == (3, *window.shape)


def test_a_description_that_is_none(volume: Path, tmp_path: Path) -> None:
    """A description that is missing, or is not YAML, is named."""
    path = copied(volume, tmp_path)
    path.with_suffix(".yaml").write_text("grey: [")
    with pytest.raises(WeightsError, match="is not YAML"):
        weights.load(path)
    path.with_suffix(".yaml").unlink()
    with pytest.raises(WeightsError, match=r"needs a description in .*volume.yaml"):
        weights.load(path)


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


MODEL = "models/model.json"
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
def test_nothing_is_unpickled(place: str, save: str, volume: Path, tmp_path: Path) -> None:
    """A pickle that would run code is not opened, wherever in the archive it lies."""
    path, trace = copied(volume, tmp_path), tmp_path / "trace"
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


def first_node(change: Callable[[Tree], object]) -> Callable[[Tree], object]:
    """A change of the graph's first operator."""
    return lambda tree: change(tree["graph_module"]["graph"]["nodes"][0])


EVIL = "__import__('pathlib').Path('TRACE').touch()"


def expressions(tree: Tree) -> None:
    """Put code wherever the graph holds an expression."""
    tree["guards_code"] = [EVIL]

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "expr_str" in node:
                node["expr_str"] = EVIL
            node = list(node.values())
        for item in node if isinstance(node, list) else ():
            walk(item)

    walk(tree)


TEXT = {"name": "filename", "arg": {"as_string": "TRACE"}, "kind": 1}
GRAPHS: dict[str, tuple[Callable[[Tree], object], str | None]] = {
    "expressions": (expressions, None),
    "a function of PyTorch": (
        first_node(lambda n: n.update(target="torch.hub.load")),
        "torch.hub.load is none of PyTorch's own",
    ),
    "a module that PyTorch imports": (
        first_node(lambda n: n.update(target="torch.os.system", inputs=[TEXT])),
        "torch.os.system is none of PyTorch's own",
    ),
    "a function of Python": (
        first_node(lambda n: n.update(target="_operator.methodcaller")),
        "methodcaller is none",
    ),
    "an attribute": (
        first_node(lambda n: n.update(target="torch.ops.aten.__class__.default")),
        "__class__.default is none",
    ),
    "a file": (
        first_node(lambda n: n.update(target="torch.ops.aten.from_file.default", inputs=[TEXT])),
        "takes text",
    ),
    "chance": (
        first_node(lambda n: n.update(target="torch.ops.aten.rand.default", inputs=[])),
        "draws random numbers",
    ),
    "a newer schema": (lambda t: t["schema_version"].update(major=9), "schema 9, not 8"),
    "another type": (
        lambda t: [m.update(dtype=5) for m in t["graph_module"]["graph"]["tensor_values"].values()],
        "its input is not float32",
    ),
    "no graph": (lambda t: t.clear(), "cannot be run"),
}  # fmt: skip


@pytest.mark.parametrize("what", GRAPHS)
def test_a_graph_can_only_compute(
    what: str, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that names code, files or chance is refused in a sentence, and runs none of it."""
    path, (change, sentence) = copied(volume, tmp_path), GRAPHS[what]
    monkeypatch.chdir(tmp_path)
    rewritten(path, {MODEL: edited(change)})
    before = sorted(tmp_path.iterdir())
    if sentence is None:
        weights.load(path)
    else:
        with pytest.raises(WeightsError, match=sentence) as caught:
            weights.load(path)
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_network_that_learns_is_refused(tmp_path: Path) -> None:
    """Exported in training mode, a network would change with every window."""
    network = Volume()
    program = torch.export.export(network.train(), (torch.rand(1, 1, 4, 8, 8),))
    torch.export.save(program, tmp_path / "learns.pt2")
    (tmp_path / "learns.yaml").write_text(yaml.safe_dump(VOLUME))
    with pytest.raises(WeightsError, match=r"training mode"):
        weights.load(tmp_path / "learns.pt2")


def test_pytorch_would_run_it(volume: Path, tmp_path: Path) -> None:
    """The planted pickles are such as PyTorch's own reader unpickles: the tests above see them."""
    path, trace = copied(volume, tmp_path), tmp_path / "trace"
    buffer = io.BytesIO()
    torch.save(Touch(trace), buffer)
    rewritten(path, {"data/sample_inputs/model.pt": buffer.getvalue()})
    with pytest.raises(Exception, match=r".*"):
        torch.export.load(path)
    assert trace.exists()
