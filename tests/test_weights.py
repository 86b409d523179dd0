"""Weights files: there and back, and what is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cadseg.errors import WeightsError
from cadseg.models import weights
from cadseg.models.affinity import affinities
from cadseg.models.published import import_published
from cadseg.models.student import Student, StudentConfig
from cadseg.models.teacher import Teacher, TeacherConfig

# The authors' checkpoint and what it computes; not ours to ship.
REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"
CHECKPOINT = REFERENCE / "published_student_ac34.ckpt"
GOLDEN = REFERENCE / "published_student_golden.h5"


@pytest.fixture
def saved(tmp_path):
    """A student with a configuration of its own, and the file that it was saved to."""
    student = Student(StudentConfig(filters=2, embedding=3, align_corners=True))
    path = tmp_path / "small.safetensors"
    weights.save(path, student, card="a small one")
    return student.eval(), path


def test_an_impossible_network_is_refused(saved):
    """A header that asks for more channels than can be counted is one sentence."""
    _, path = saved
    entry = weights.header(path).model_dump()
    entry["config"]["filters"] = 10**12
    save_file(load_file(path), path, metadata={"cadseg": json.dumps(entry)})
    with pytest.raises(WeightsError, match="impossible network"):
        weights.load(path)


def test_there_and_back(saved):
    """A loaded student is the saved one: configuration, weights, output; ready to predict."""
    student, path = saved
    loaded = weights.load(path)
    raw = torch.rand(1, 2, 32, 32)
    assert loaded.config == student.config
    assert not loaded.training
    for one, two in zip(student(raw), loaded(raw), strict=True):
        assert torch.equal(one, two)
    config = {"filters": 2, "embedding": 3, "align_corners": True}
    assert weights.header(path) == weights.Header(kind="student", config=config, card="a small one")


def test_a_loaded_student_can_be_trained(saved):
    """Nothing is missing in a loaded student that training needs."""
    student = weights.load(saved[1]).train()
    sum(e.sum() for e in student(torch.rand(1, 2, 32, 32))).backward()
    assert all(p.grad is not None for p in student.parameters())


def test_saving_twice_gives_the_same_file(saved, tmp_path):
    """Equal weights make equal files, so that a file's checksum is the weights' identity."""
    _, path = saved
    for _ in range(8):
        weights.save(tmp_path / "again.safetensors", weights.load(path), card="a small one")
        assert weights.sha256(tmp_path / "again.safetensors") == weights.sha256(path)
    assert weights.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "small.safetensors"]


def spoil(path, change):
    """Rewrite a weights file with its tensors changed."""
    tensors = load_file(path)
    change(tensors)
    config = StudentConfig(filters=2, embedding=3).model_dump()
    header = weights.Header(kind="student", config=config, card="")
    save_file(tensors, path, metadata={"cadseg": header.model_dump_json()})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.update({"down1.0.weight": torch.zeros(8, 8, 5, 5)}),
         r"tensor down1.0.weight has shape \[8, 8, 5, 5\] float32, this network has shape "
         r"\[8, 8, 3, 3\] float32; accepted: .*filters=2"),
        (lambda t: t.pop("upper.out.bias"), "tensor upper.out.bias has no such tensor"),
        (lambda t: t.update(extra=torch.zeros(1)), "tensor extra has shape .* no such tensor"),
        (lambda t: t.update({"stem.0.bias": t["stem.0.bias"].half()}), "stem.0.bias .* float16"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_named(saved, change, sentence):
    """Weights of another network are refused, with file and first tensor that differs."""
    _, path = saved
    spoil(path, change)
    with pytest.raises(WeightsError, match=sentence) as caught:
        weights.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "cannot be read"), (b"", "cannot be read"), (b"x" * 999, "cannot be read")],
)
def test_what_is_no_weights_file_is_refused(tmp_path, content, sentence):
    """A file that is missing, empty or something else is refused with a sentence."""
    path = tmp_path / "a.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=sentence):
        weights.load(path)


def test_a_foreign_file_is_refused(tmp_path):
    """A safetensors file without our configuration, or with a wrong one, is refused."""
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="no network configuration"):
        weights.load(path)
    for header, sentence in (
        ({"config": {}, "card": ""}, "in its header the key kind is missing; accepted are files"),
        ({"kind": "pupil", "config": {}, "card": ""}, "kind pupil; accepted are student, teacher"),
        ({"kind": "student", "config": {"filters": 0}, "card": ""}, "config filters is 0"),
    ):
        save_file({"a": torch.zeros(1)}, path, metadata={"cadseg": json.dumps(header)})
        with pytest.raises(WeightsError, match=sentence):
            weights.load(path)
        with pytest.raises(WeightsError, match=sentence):
            weights.needs(path)


def test_only_the_kind_that_is_asked_for(saved, tmp_path):
    """A teacher is loaded where any network will do, and refused where a student is needed."""
    path = tmp_path / "teacher.safetensors"
    weights.save(path, Teacher(TeacherConfig(widths=(1, 1, 1, 1, 1), embedding=2)))
    assert isinstance(weights.load(path), Teacher)
    assert weights.needs(path) == weights.load(path).needs
    with pytest.raises(WeightsError, match="of kind teacher; accepted are weights of a student"):
        weights.load_as(Student, path)
    assert weights.load_as(Student, saved[1]).config == saved[0].config


def test_find_knows_the_package(tmp_path, saved):
    """Weights are found by their name in the package and by their path; else both are said."""
    assert weights.find(str(saved[1])) == saved[1]
    assert weights.find("default-ssem").name == "default-ssem.safetensors"
    with pytest.raises(
        WeightsError, match=r"weights nobody: no such file; .* default-fibsem, default-ssem"
    ):
        weights.find("nobody")


def test_the_default_student_is_small_and_independent_of_tiles():
    """The student that ships is at most 4 MB, and does not depend on the tile size."""
    path = weights.find("default-ssem")
    assert path.stat().st_size <= 4_000_000
    student = weights.load(path)
    assert student.config == StudentConfig()
    assert all(tensor.isfinite().all() for tensor in student.state_dict().values())


class Touch:
    """An object that would create a file if it was unpickled."""

    def __init__(self, path):
        """Remember what to create."""
        self.path = path

    def __reduce__(self):
        """Say how to create it."""
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    """A checkpoint that would run code is refused with a sentence, and its code is not run."""
    checkpoint, trace = tmp_path / "evil.ckpt", tmp_path / "trace"
    torch.save({"model_weights": Touch(trace)}, checkpoint)
    with pytest.raises(WeightsError, match="would run code"):
        import_published(checkpoint, tmp_path / "out.safetensors")
    checkpoint.write_bytes(pickle.dumps(Touch(trace)))
    with pytest.raises(WeightsError, match=r"would run code|cannot be read"):
        import_published(checkpoint, tmp_path / "out.safetensors")
    assert not trace.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("tree", [{"weights": {}}, [1, 2], {"model_weights": {"inc": 1}}])
def test_a_foreign_checkpoint_is_refused(tmp_path, tree):
    """A checkpoint of something else is refused with a sentence."""
    torch.save(tree, tmp_path / "a.ckpt")
    with pytest.raises(WeightsError, match=r"a.ckpt"):
        import_published(tmp_path / "a.ckpt", tmp_path / "out.safetensors")


@pytest.mark.published
@pytest.mark.skipif(not CHECKPOINT.exists(), reason=f"no {CHECKPOINT}")
def test_the_published_student_is_reproduced(tmp_path):
    """An imported checkpoint gives the embeddings and affinities that its authors' code gives."""
    path = tmp_path / "published.safetensors"
    import_published(CHECKPOINT, path)
    student = weights.load(path)
    assert student.config == StudentConfig(align_corners=True)
    with h5py.File(GOLDEN) as file:
        raw = file["raw"][:]
        golden = {name: data[:] for name, data in file["AC34"].items()}
    pairs = torch.from_numpy(np.stack([raw[[0, 0, 1, 2]], raw], axis=1)).float() / 255
    with torch.inference_mode():
        lower, upper = student(pairs)
        affs = affinities(lower, upper).numpy()
    window = np.s_[1, :, 96:160, 96:160]
    assert np.abs(lower.numpy()[window] - golden["embedding_lower"]).max() < 1e-4
    assert np.abs(upper.numpy()[window] - golden["embedding_upper"]).max() < 1e-4
    assert np.abs(affs.swapaxes(0, 1) - golden["affinities"]).max() < 1e-4
