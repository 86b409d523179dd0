"""The config of a run: frozen, complete, and strict at every level.

There are no defaults here: they are in the YAML files of ``configs/``, which explain every key. A
config is one of these files, or a complete file of the user's own, with single keys overridden by
``--set a.b=value``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cadseg import documents
from cadseg.errors import ConfigError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Nm = Annotated[float, Field(ge=1e-6, le=1e9)]
"""A length in nm: from a femtometre to a metre."""

Lengths = tuple[Positive, Positive, Positive]

Override = str | tuple[str, object]
"""``key=value``, the value in YAML; or a dotted key and its value."""

SHOWN = 200
"""Characters of a wrong value that a sentence shows."""

TRAINING = "train-"
"""Prefix of the names of training configs."""


class Strict(BaseModel):
    """Refuses unknown keys, wrong types and changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class VolumeConfig(Strict):
    """What to read."""

    voxel_size: tuple[Nm, Nm, Nm] | None
    grey_range: tuple[int, int] | None
    roi: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None
    mask: str | None


class PredictConfig(Strict):
    """How the network runs."""

    weights: str
    device: Literal["auto", "cpu", "cuda"]
    tile: tuple[Positive, Positive]
    halo: Annotated[int, Field(ge=0)]
    batch: Positive
    exact_tiling: bool
    threads: Positive
    keep_affinities: bool


class FragmentsConfig(Strict):
    """How affinities become heights, and heights become fragments."""

    dimensions: Literal[2, 3]
    distance_clip: Annotated[int, Field(ge=1, le=64)]
    sigma: Annotated[float, Field(gt=0, le=8)]
    boundary_weight: Annotated[float, Field(ge=0, le=16)]


class AgglomerateConfig(Strict):
    """How fragments merge."""

    engine: Literal["exact", "waterz"]
    scoring: Literal["mean", "median"]
    min_affinity: Fraction
    memory_gb: Annotated[float, Field(gt=0, le=1_000_000)]
    percolation_share: Fraction


class SegmentConfig(Strict):
    """Where the merge tree is cut, and how the segmentation is stored."""

    threshold: Fraction
    min_voxels: NonNegative
    pyramid_levels: Annotated[int, Field(ge=0, le=16)]


class Config(Strict):
    """Everything a run depends on, except for the volume and the weights themselves."""

    block_shape: Lengths
    volume: VolumeConfig
    predict: PredictConfig
    fragments: FragmentsConfig
    agglomerate: AgglomerateConfig
    segment: SegmentConfig

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Config:
        if self.agglomerate.engine == "waterz" and not self.predict.keep_affinities:
            raise ValueError(
                "agglomerate.engine is waterz, which reads affinities, but predict.keep_affinities "
                "is false; accepted is the engine exact, or affinities that are kept"
            )
        threshold, floor = self.segment.threshold, self.agglomerate.min_affinity
        if threshold < floor:
            raise ValueError(
                f"segment.threshold is {threshold}, below agglomerate.min_affinity, {floor}, under "
                "which merges are not computed; choose a higher threshold or a lower floor"
            )
        return self


def builtin_names(*, training: bool = False) -> list[str]:
    """Names of the configs that ship with the package: of runs, or of trainings."""
    files = [Path(f.name) for f in resources.files("cadseg.configs").iterdir()]
    names = [path.stem for path in files if path.suffix == ".yaml"]
    return sorted(name for name in names if name.startswith(TRAINING) == training)


def load(name_or_file: str, overrides: Sequence[Override] = ()) -> Config:
    """The config of that name, or in that file, with overrides applied.

    Raises:
        ConfigError: no such config; not YAML; a key unknown, missing, or out of range.
    """
    return from_tree(read(name_or_file, overrides), name_or_file)


def read(
    name_or_file: str, overrides: Sequence[Override] = (), *, training: bool = False
) -> dict[str, Any]:
    """The config of that name, or in that file, as plain data with overrides applied.

    Raises:
        ConfigError: no such config; not YAML; a key to override that is not there.
    """
    tree = _read(name_or_file, builtin_names(training=training))
    for override in overrides:
        _apply(tree, override)
    return tree


def from_tree(tree: Mapping[str, Any], where: str) -> Config:
    """The config made of plain data, as YAML or JSON gives it; `where` is named in errors."""
    try:
        return Config.model_validate(tuples(tree))
    except ValidationError as error:
        raise ConfigError(f"config {where}: {sentence(error)}") from None


def _read(name_or_file: str, names: Sequence[str]) -> dict[str, Any]:
    if name_or_file in names:
        text = resources.files("cadseg.configs").joinpath(f"{name_or_file}.yaml").read_bytes()
    else:
        text = _content(Path(name_or_file), names)
    try:
        tree = documents.parse(text)
    except ValueError as error:
        raise ConfigError(f"config {name_or_file}: not YAML ({error})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"config {name_or_file}: holds no keys; see configs/ for a complete file")
    return tree


def _content(path: Path, names: Sequence[str]) -> bytes:
    try:
        if path.is_file():
            return path.read_bytes()
        found = "no such file"
    except (OSError, ValueError) as error:  # no name that a file can have
        found = f"cannot be read ({error})"
    accepted = f"accepted are a YAML file or one of {', '.join(names)}"
    raise ConfigError(f"config {path}: {found}; {accepted}")


def _apply(tree: dict[str, Any], override: Override) -> None:
    """Set one dotted key, which must exist."""
    key, value = _parsed(override) if isinstance(override, str) else override
    *parents, last = key.split(".")
    node: Any = tree
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        raise ConfigError(f"there is no key {key}; {_accepted(tree, key)}")
    node[last] = value


def _parsed(override: str) -> tuple[str, object]:
    key, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: no '='; accepted is key=value, as in a.b=3")
    try:
        return key, documents.parse(value)
    except ValueError as error:
        raise ConfigError(f"--set {override}: the value is not YAML ({error})") from None


def _accepted(tree: Mapping[str, Any], key: str) -> str:
    section = tree.get(key.partition(".")[0])
    keys = section if isinstance(section, dict) and "." in key else tree
    return f"accepted are {', '.join(keys)}"


def tuples(node: Any) -> Any:
    """YAML's lists as tuples, which is what strict models take."""
    if isinstance(node, Mapping):
        return {key: tuples(value) for key, value in node.items()}
    if isinstance(node, list):
        return tuple(tuples(value) for value in node)
    return node


def sentence(error: ValidationError) -> str:
    """The first problem, in one sentence, with the key, what was found and what is accepted."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no key {key}"
    if first["type"] == "missing":
        return f"the key {key} is missing"
    if first["type"] == "value_error":  # raised by a validator of ours: a sentence already
        problem = str(first["ctx"]["error"])
        return f"{key}: {problem}" if key else problem
    accepted = first["msg"].removeprefix("Input should be ")
    return f"{key or 'it'} is {_shown(first['input'])}; accepted is {accepted}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "too large a number"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
