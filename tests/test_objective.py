"""The training objective, by the networks that there are and the losses that connect them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_training as toy
from pydantic import ValidationError

from cadseg import config as configs
from cadseg.errors import WeightsError
from cadseg.models import weights
from cadseg.models.affinity import affinities
from cadseg.models.student import Student, StudentConfig
from cadseg.models.teacher import Teacher, TeacherConfig
from cadseg.models.training import losses
from cadseg.models.training.objective import Objective, ObjectiveConfig
from cadseg.models.training.targets import targets_of

SEEN_BY_BOTH = toy.BOTH | {"together_from": 0}
Batch = tuple[torch.Tensor, torch.Tensor]


def config(**changes: Any) -> ObjectiveConfig:
    """Both networks, with changes."""
    return ObjectiveConfig.model_validate(configs.tuples(SEEN_BY_BOTH | changes))


def objective(**changes: Any) -> Objective:
    """Networks that are trained; equal ones start with equal weights."""
    torch.manual_seed(3)
    made = Objective(config(**changes), "float32")
    torch.manual_seed(4)
    if made.teacher is not None and made.config.teacher and made.config.teacher.weights is None:
        made.teacher.load_state_dict(Teacher(made.config.teacher.network).state_dict())
    return made.train()


def gradients(network: torch.nn.Module | None) -> dict[str, torch.Tensor | None]:
    """The gradients, by name."""
    assert network is not None
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def learned(made: Objective, batch: Batch, *, together: bool = True) -> dict[str, float]:
    """Losses of a batch, whose gradients the networks then hold."""
    found = made(*batch, together=together)
    torch.stack(list(found.values())).sum().backward()
    return {name: float(loss.detach()) for name, loss in found.items()}


def equal(first: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all gradients, or weights, are equal."""
    assert first.keys() == other.keys()
    return all(torch.equal(first[name], other[name]) for name in first)


@pytest.fixture
def batch() -> Batch:
    """Two crops of three sections."""
    generator = torch.Generator().manual_seed(1)
    raw = torch.rand((2, 3, 32, 32), generator=generator)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    labels = (1 + y // 11 * 3 + x // 9).int().expand(2, 3, 32, 32).clone()
    labels[1, :, :5] = -1
    labels[0, 1, 3:6] = 0
    return raw, labels


def saved(folder: Path) -> dict[str, str]:
    """Weights of a student and of a teacher of the toy's sizes."""
    torch.manual_seed(7)
    networks: dict[str, Student | Teacher] = {
        "student": Student(StudentConfig(filters=2, embedding=4)),
        "teacher": Teacher(TeacherConfig(widths=(2, 2, 3, 3, 4), embedding=4, momentum=0.1)),
    }
    for name, network in networks.items():
        weights.save(folder / f"{name}.safetensors", network)
    return {name: str(folder / f"{name}.safetensors") for name in networks}


def frozen(folder: Path) -> toy.Tree:
    """A teacher that does not learn."""
    return toy.TEACHER | {"weights": saved(folder)["teacher"], "learns": False}


def test_a_student_alone(batch: Batch) -> None:
    """It learns from labels: its loss is the slice loss of its affinities."""
    made = objective(teacher=None, distillation="off", fgi="off")
    assert made.teacher is None
    assert list(made.networks()) == ["student"]
    assert made.student is not None
    lower, upper = copy.deepcopy(made.student).sections(batch[0])
    pairs = [affinities(lower[:, p], upper[:, p]) for p in range(2)]
    expected = losses.slice_loss(torch.stack(pairs, 1), targets_of(batch[1]))
    assert learned(made, batch) == {"slice": pytest.approx(float(expected.detach()))}
    assert all(grad is not None for grad in gradients(made.student).values())


def test_a_teacher_alone(batch: Batch) -> None:
    """It learns from labels, with a loss of its own."""
    made = objective(student=None, distillation="off", fgi="off")
    assert made.student is None
    assert list(made.networks()) == ["teacher"]
    assert list(learned(made, batch)) == ["teacher"]
    assert all(grad is not None for grad in gradients(made.teacher).values())


def test_losses_have_weights(batch: Batch) -> None:
    """The two weights multiply distillation and grafting, and nothing else."""
    once = learned(objective(), batch)
    assert list(once) == ["slice", "teacher", "distillation", "fgi"]
    assert all(loss > 0 for loss in once.values())
    more = learned(objective(distillation_weight=3.0, fgi_weight=0.5), batch)
    expected = once | {"distillation": 3 * once["distillation"], "fgi": once["fgi"] / 2}
    assert more == pytest.approx(expected)


@pytest.mark.parametrize("fgi", ["off", "grafted", "released"])
def test_detached(batch: Batch, fgi: str) -> None:
    """A detached teacher learns as one without a student does; the student learns from it."""
    both = objective(distillation="detached", fgi=fgi)
    lone = objective(student=None, distillation="off", fgi="off")
    apart = objective(distillation="off", fgi="off")
    for made in (both, lone, apart):
        learned(made, batch)
    assert equal(gradients(both.teacher), gradients(lone.teacher))
    assert equal(gradients(apart.teacher), gradients(lone.teacher))
    assert not equal(gradients(both.student), gradients(apart.student))


@pytest.mark.parametrize(
    ("distillation", "fgi"), [("mutual", "off"), ("off", "grafted"), ("off", "released")]
)
def test_mutual(batch: Batch, distillation: str, fgi: str) -> None:
    """Distillation that is mutual, and grafting, change both networks' gradients."""
    both = objective(distillation=distillation, fgi=fgi, fgi_weight=100.0)
    apart = objective(distillation="off", fgi="off")
    learned(both, batch)
    learned(apart, batch)
    assert not equal(gradients(both.teacher), gradients(apart.teacher))
    assert not equal(gradients(both.student), gradients(apart.student))


def test_forms_of_grafting_differ(batch: Batch) -> None:
    """Grafting as described and as released are different losses."""
    found = [learned(objective(fgi=form), batch)["fgi"] for form in ("grafted", "released")]
    assert found[0] != pytest.approx(found[1], rel=0.01)


def test_not_yet_together(batch: Batch) -> None:
    """Before `together_from` both networks learn as they would without each other."""
    both, apart = objective(), objective(distillation="off", fgi="off")
    assert learned(both, batch, together=False) == learned(apart, batch)
    assert equal(gradients(both.student), gradients(apart.student))
    assert equal(gradients(both.teacher), gradients(apart.teacher))


@pytest.mark.parametrize("together", [True, False])
def test_a_teacher_that_does_not_learn(batch: Batch, tmp_path: Path, together: bool) -> None:
    """Nothing of it changes, not even its batch statistics; a student can learn from it."""
    made = objective(teacher=frozen(tmp_path), distillation="detached", fgi="grafted")
    assert list(made.networks()) == ["student"]
    assert made.teacher is not None
    before = copy.deepcopy(made.teacher.state_dict())
    found = learned(made, batch, together=together)
    shared = {"distillation", "fgi"} if together else set()
    assert found.keys() == {"slice"} | shared
    assert set(gradients(made.teacher).values()) == {None}
    assert not any(parameter.requires_grad for parameter in made.teacher.parameters())
    assert equal(made.teacher.state_dict(), before)
    assert made.student is not None
    assert made.student.training
    assert not made.teacher.training


def test_weights_to_begin_with(tmp_path: Path) -> None:
    """Both networks begin with what the files hold."""
    files = saved(tmp_path)
    made = objective(
        student=toy.STUDENT | {"weights": files["student"]},
        teacher=toy.TEACHER | {"weights": files["teacher"]},
    )
    student = weights.load(Path(files["student"]))
    teacher = weights.load(Path(files["teacher"]))
    for network, loaded in ((made.student, student), (made.teacher, teacher)):
        assert network is not None
        assert equal(network.state_dict(), loaded.state_dict())
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert all(module.training for module in made.modules())


def test_weights_of_something_else(tmp_path: Path) -> None:
    """Weights of another network, or of the other kind, are refused, and so are missing ones."""
    files = saved(tmp_path)
    wide: toy.Tree = {"network": toy.STUDENT["network"] | {"filters": 4}}
    deep: toy.Tree = {"network": toy.TEACHER["network"] | {"widths": [2, 2, 2, 2, 2]}}
    for changes, sentence in (
        ({"student": wide | {"weights": files["student"]}}, "filters=2.* asks for filters=4"),
        (
            {"teacher": toy.TEACHER | deep | {"weights": files["teacher"]}},
            r"3, 3, 4.* asks for .*2, 2, 2\)",
        ),
        ({"teacher": toy.TEACHER | {"weights": files["student"]}}, "of kind student"),
        ({"student": toy.STUDENT | {"weights": files["teacher"]}}, "of kind teacher"),
        ({"student": toy.STUDENT | {"weights": "nowhere"}}, "nowhere: no such file"),
    ):
        with pytest.raises(WeightsError, match=sentence):
            objective(**changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"student": None, "teacher": None}, "nothing learns"),
        ({"student": None}, "distillation and fgi need a student and a teacher"),
        ({"teacher": None, "fgi": "off"}, "distillation and fgi need a student and a teacher"),
        ({"teacher": None, "distillation": "off"}, "distillation and fgi need"),
        ({"teacher": toy.TEACHER | {"learns": False}}, "does not learn needs weights"),
        (
            {"teacher": toy.TEACHER | {"learns": False, "weights": "a"}},
            "mutual distillation needs a teacher that learns",
        ),
        (
            {"student": None, "teacher": toy.TEACHER | {"learns": False, "weights": "a"}},
            "nothing learns",
        ),
        (
            {"student": toy.STUDENT | {"network": toy.STUDENT["network"] | {"embedding": 5}}},
            "the student's has 5 channels and the teacher's 4",
        ),
        ({"fgi_weight": -1.0}, "greater than or equal to 0"),
        ({"distillation_weight": float("inf")}, "finite"),
    ],
)
def test_what_does_not_fit_is_refused(changes: toy.Tree, sentence: str) -> None:
    """Networks and losses that do not go together are refused in a sentence that names both."""
    with pytest.raises(ValidationError, match=sentence) as caught:
        config(**changes)
    assert "\n" not in configs.sentence(caught.value)
