"""The training objective: the networks that are trained, and the sum of losses to minimise.

A crop goes through both networks: the teacher sees it as a volume, the student as its pairs of
adjacent sections. Either network may be absent. A teacher with ``learns: false`` is frozen; one
that is trained together with the student starts from random weights, as in the authors' code of
CAD, or from weights of an earlier run.

Axis letters: B crops, D sections of a crop, P = D - 1 section pairs, E embedding, C channels, Y X.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from cadseg.config import NonNegative, NonNegativeFloat, Strict
from cadseg.errors import WeightsError
from cadseg.models import weights
from cadseg.models.affinity import OFFSETS, affinities, volume_affinities
from cadseg.models.student import Student, StudentConfig
from cadseg.models.teacher import Teacher, TeacherConfig
from cadseg.models.training import losses
from cadseg.models.training.targets import targets_of

if TYPE_CHECKING:
    from cadseg.models.network import Network

TrainingPrecision = Literal["bfloat16", "float32"]


class LearnerConfig(Strict):
    """The student of a run.

    Attributes:
        network: its architecture.
        weights: initial weights, a name or a file; None for random ones.
    """

    network: StudentConfig
    weights: str | None


class TeachingConfig(Strict):
    """The teacher of a run.

    Attributes:
        network: its architecture.
        weights: file of initial weights; None for random ones.
        learns: whether it is trained; otherwise it is frozen.
    """

    network: TeacherConfig
    weights: str | None
    learns: bool


class ObjectiveConfig(Strict):
    """Which networks there are, and the losses that connect student and teacher.

    Attributes:
        student: None if only a teacher is trained.
        teacher: None if the student is trained from labels alone.
        distillation: the distillation loss; ``mutual`` has gradients in both networks, ``detached``
            in the student only.
        distillation_weight: of that loss.
        fgi: form of the feature grafting interaction, see
            `cadseg.models.training.losses.grafting_loss`.
        fgi_weight: of that loss.
        together_from: first step in which these two losses count.
    """

    student: LearnerConfig | None
    teacher: TeachingConfig | None
    distillation: Literal["off", "mutual", "detached"]
    distillation_weight: NonNegativeFloat
    fgi: Literal["off", "grafted", "released"]
    fgi_weight: NonNegativeFloat
    together_from: NonNegative

    @model_validator(mode="after")
    def _fits(self) -> ObjectiveConfig:
        if self.student is None and (self.teacher is None or not self.teacher.learns):
            raise ValueError("nothing learns; accepted is a student, or a teacher that learns")
        if self.student is None or self.teacher is None:
            if (self.distillation, self.fgi) != ("off", "off"):
                raise ValueError("distillation and fgi need a student and a teacher; set both off")
        elif self.fgi != "off":
            ours, theirs = self.student.network.embedding, self.teacher.network.embedding
            if ours != theirs:
                raise ValueError(
                    f"fgi compares embeddings, but the student's has {ours} channels and the "
                    f"teacher's {theirs}; accepted are as many"
                )
        if self.teacher and not self.teacher.learns:
            if self.teacher.weights is None:
                raise ValueError("a teacher that does not learn needs weights")
            if self.distillation == "mutual":
                raise ValueError("mutual distillation needs a teacher that learns; set detached")
        return self


class Objective(nn.Module):
    """Both networks, and the losses of a batch of crops."""

    def __init__(self, config: ObjectiveConfig, precision: TrainingPrecision) -> None:
        """Initialise the networks from PyTorch's global generator, or load their weights.

        Raises:
            WeightsError: initial weights cannot be loaded, or are of another architecture.
        """
        super().__init__()
        self.config, self.precision = config, precision
        self.student = None if config.student is None else _student(config.student)
        self.teacher = None if config.teacher is None else _teacher(config.teacher)
        # The channels-last memory format is fastest, on CPUs and GPUs.
        if self.student is not None:
            self.student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.teacher is not None:
            self.teacher.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def networks(self) -> dict[str, Network]:
        """The networks that are trained, by name; the student first."""
        teacher = self.teacher if self._teacher_learns else None
        named: dict[str, Network | None] = {"student": self.student, "teacher": teacher}
        return {name: network for name, network in named.items() if network is not None}

    def compile_networks(self) -> None:
        """Compile the networks with torch.compile, but not the losses."""
        if self.student is not None:
            self.student.sections = torch.compile(self.student.sections)  # type: ignore[method-assign]
        if self.teacher is not None:
            self.teacher.compile()

    def train(self, mode: bool = True) -> Objective:
        """Training mode, except for a frozen teacher."""
        super().train(mode)
        if self.teacher is not None and not self._teacher_learns:
            self.teacher.eval()
        return self

    def forward(
        self, raw_BDYX: Tensor, labels_BDYX: Tensor, *, together: bool
    ) -> dict[str, Tensor]:
        """The losses, weighted, by name; a step minimises their sum.

        Args:
            raw_BDYX: float32, 0..1.
            labels_BDYX: int32; 0 is background, -1 unlabelled.
            together: whether the losses that connect the two networks count in this step.
        """
        targets = targets_of(labels_BDYX)
        found: dict[str, Tensor] = {}
        if self.student is not None:
            lower_BPEYX, upper_BPEYX = self._sections(raw_BDYX)
            affs_BP3YX = affinities(lower_BPEYX, upper_BPEYX)
            found["slice"] = losses.slice_loss(affs_BP3YX, targets)
        if self.teacher is not None and (together or self._teacher_learns):
            teacher_BEDYX = self._volume(raw_BDYX)
            cosines_BCDYX = volume_affinities(teacher_BEDYX, OFFSETS)
            if self._teacher_learns:
                found["teacher"] = losses.teacher_loss(cosines_BCDYX, targets)
        if not together:
            return found
        if self.config.distillation == "detached":
            cosines_BCDYX, teacher_BEDYX = cosines_BCDYX.detach(), teacher_BEDYX.detach()
        if self.config.distillation != "off":
            loss = losses.distillation_loss(affs_BP3YX, cosines_BCDYX, targets)
            found["distillation"] = self.config.distillation_weight * loss
        if self.config.fgi != "off":
            form = self.config.fgi
            loss = losses.grafting_loss(lower_BPEYX, upper_BPEYX, teacher_BEDYX, targets, form)
            found["fgi"] = self.config.fgi_weight * loss
        return found

    @property
    def _teacher_learns(self) -> bool:
        return self.config.teacher is not None and self.config.teacher.learns

    def _sections(self, raw_BDYX: Tensor) -> tuple[Tensor, Tensor]:
        assert self.student is not None
        with self._autocast(raw_BDYX):
            return self.student.sections(raw_BDYX)

    def _volume(self, raw_BDYX: Tensor) -> Tensor:
        assert self.teacher is not None
        with self._autocast(raw_BDYX), torch.set_grad_enabled(self._teacher_learns):
            embeddings: Tensor = self.teacher(raw_BDYX)
            return embeddings.float()

    def _autocast(self, like: Tensor) -> torch.autocast:
        return torch.autocast(
            like.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        )


def _student(config: LearnerConfig) -> Student:
    if config.weights is None:
        return Student(config.network)
    student = weights.load_as(Student, weights.find(config.weights))
    _check(student, config)
    return student


def _teacher(config: TeachingConfig) -> Teacher:
    if config.weights is None:
        teacher = Teacher(config.network)
    else:
        teacher = weights.load_as(Teacher, weights.find(config.weights))
        _check(teacher, config)
    return teacher.requires_grad_(config.learns)


def _check(network: Network, config: LearnerConfig | TeachingConfig) -> None:
    if network.config != config.network:
        raise WeightsError(
            f"{config.weights} holds a network with {network.config}, but the config asks for "
            f"{config.network}; accepted are equal ones"
        )
