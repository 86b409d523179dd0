"""What a training run depends on, as read from YAML; configs/train-ssem.yaml explains each key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from cadseg import config as configs
from cadseg.config import Positive, Strict
from cadseg.errors import ConfigError
from cadseg.models.student import MULTIPLE
from cadseg.models.training.augment import AugmentConfig
from cadseg.models.training.crops import DataConfig
from cadseg.models.training.objective import ObjectiveConfig, Weight
from cadseg.models.training.validate import ValidationConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

Width = Annotated[int, Field(gt=0, multiple_of=MULTIPLE)]
Share = Annotated[float, Field(ge=0, lt=1)]
Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AdamConfig(Strict):
    """Numbers of Adam, and how its learning rate goes from the first step to the last."""

    learning_rate: Above0
    decay: Literal["cosine", "none"]
    warmup: Annotated[int, Field(ge=0)]
    betas: tuple[Share, Share]
    eps: Above0
    weight_decay: Weight
    amsgrad: bool


class TrainConfig(Strict):
    """Everything a training run depends on, beside the data themselves."""

    data: Annotated[tuple[DataConfig, ...], Field(min_length=1)]
    sections: Annotated[int, Field(ge=2)]
    width: Width
    batch: Positive
    augment: AugmentConfig
    objective: ObjectiveConfig
    adam: AdamConfig
    ema: Share
    steps: Positive
    validation: ValidationConfig
    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]  # float16 would need its losses scaled
    compile: bool
    threads: Positive
    readers: Positive
    seed: Annotated[int, Field(ge=0)]
    checkpoint_every: Positive
    log_every: Positive


def load(name_or_file: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """The training config of that name, or in that file, with ``key=value`` overrides applied.

    Raises:
        ConfigError: no such config; not YAML; a key unknown, missing, or out of range.
    """
    tree = configs.read(name_or_file, overrides, training=True)
    try:
        return TrainConfig.model_validate(configs.tuples(tree))
    except ValidationError as error:
        raise ConfigError(f"config {name_or_file}: {configs.sentence(error)}") from None
