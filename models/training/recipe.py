"""The configuration of a training run; configs/train-ssem.yaml explains each key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from cadseg import config as configs
from cadseg.config import NonNegative, NonNegativeFloat, Positive, PositiveFloat, Strict
from cadseg.errors import ConfigError
from cadseg.models.student import MULTIPLE
from cadseg.models.training.augment import AugmentConfig
from cadseg.models.training.crops import DataConfig
from cadseg.models.training.objective import ObjectiveConfig, TrainingPrecision
from cadseg.models.training.validate import ValidationConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cadseg.config import Override

Width = Annotated[int, Field(gt=0, multiple_of=MULTIPLE)]
DecayRate = Annotated[float, Field(ge=0, lt=1)]


class AdamConfig(Strict):
    """Parameters of Adam, and its learning-rate schedule."""

    learning_rate: PositiveFloat
    decay: Literal["cosine", "none"]
    warmup: NonNegative
    betas: tuple[DecayRate, DecayRate]
    eps: PositiveFloat
    weight_decay: NonNegativeFloat
    amsgrad: bool


class TrainConfig(Strict):
    """Everything a training run depends on, except for the data themselves."""

    data: Annotated[tuple[DataConfig, ...], Field(min_length=1)]
    sections: Annotated[int, Field(ge=2)]
    width: Width
    batch: Positive
    augment: AugmentConfig
    objective: ObjectiveConfig
    adam: AdamConfig
    ema: DecayRate
    steps: Positive
    validation: ValidationConfig
    device: Literal["cpu", "cuda"]
    precision: TrainingPrecision
    compile: bool
    threads: Positive
    readers: Positive
    seed: NonNegative
    checkpoint_every: Positive
    log_every: Positive


def load(name_or_file: str, overrides: Sequence[Override] = ()) -> TrainConfig:
    """The training config of that name, or in that file, with overrides applied.

    Raises:
        ConfigError: no such config; not YAML; a key unknown, missing, or out of range.
    """
    tree = configs.read(name_or_file, overrides, training=True)
    try:
        return TrainConfig.model_validate(configs.tuples(tree))
    except ValidationError as error:
        raise ConfigError(f"config {name_or_file}: {configs.sentence(error)}") from None
