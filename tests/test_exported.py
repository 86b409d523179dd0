"""Networks of anyone's own: they predict as they are described."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import real_run as real
import torch
import yaml
import zarr
from torch import Tensor, nn
from torch.export import Dim
from toy_exported import UNITS, VOLUME, Tree, Volume, copied, export

from cadseg.errors import WeightsError
from cadseg.models import weights
from cadseg.models.affinity import affinities
from cadseg.models.predict import predicted
from cadseg.models.student import Student


class Pairs(nn.Module):
    """The student as a network of two sections that gives affinities."""

    def __init__(self, student: Student) -> None:
        """Wrap it."""
        super().__init__()
        self.student = student

    def forward(self, x: Tensor) -> Tensor:
        """Affinities [B, 3, Y, X] of [B, 2, Y, X]."""
        return affinities(*self.student(x))


def test_it_predicts_what_pytorch_does(pt2: Path) -> None:
    """Affinities are the described channels of the network's output, in the described range."""
    raw = np.random.default_rng(0).integers(0, 256, (5, 12, 18), np.uint8)
    found = predicted(weights.load(pt2), raw)
    with torch.inference_mode():
        out = Volume().eval()(torch.from_numpy(raw).float()[None, None] / 127.5 - 1)[0]
    expected = (1 - out[[2, 3, 1]]).clamp(0, 1).numpy() * 255
    assert np.abs(found - expected).max() < 0.51
    assert np.ptp(found) > 50


def test_a_run_of_a_volume_network(pt2: Path, tmp_path: Path) -> None:
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
            *("predict", tmp_path / "raw.zarr", "--weights", pt2, "--serial"),
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


def test_the_identity_covers_the_description(pt2: Path, tmp_path: Path) -> None:
    """Whether the network changes or what is said of it, the weights are others."""
    path = copied(pt2, tmp_path)
    before = weights.sha256(path)
    assert before == weights.sha256(pt2)
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
    changes: Tree, sentence: str, pt2: Path, tmp_path: Path
) -> None:
    """Each problem of a description is one sentence, with the file and the key."""
    path = copied(pt2, tmp_path)
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


def test_a_description_that_is_none(pt2: Path, tmp_path: Path) -> None:
    """A description that is missing, or is not YAML, is named."""
    path = copied(pt2, tmp_path)
    for content in (b"grey: [", b"\xff\xfe", b"&a [*a]"):
        path.with_suffix(".yaml").write_bytes(content)
        with pytest.raises(WeightsError, match="is not YAML"):
            weights.load(path)
    path.with_suffix(".yaml").write_text("")
    with pytest.raises(WeightsError, match="it is None"):
        weights.load(path)
    path.with_suffix(".yaml").unlink()
    with pytest.raises(WeightsError, match=r"needs a description in .*volume.yaml"):
        weights.load(path)
