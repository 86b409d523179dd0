"""The training configs that ship differ where they say so."""

from __future__ import annotations

from typing import Any

import pytest

from cadseg import config as configs
from cadseg.models.training import recipe

NAMES = configs.builtin_names(training=True)

CROPS = ("sections", "width", "batch")

# where each differs from train-ssem, which explains all keys
DIFFERS = {
    "train-ssem": set(),
    "train-teacher": {*CROPS, "steps", "objective.student", "objective.teacher"},
    "train-distill": {*CROPS, "steps", "objective.teacher", "objective.distillation"},
    "train-fibsem": {
        "data",
        "augment.defects.slipped",
        "augment.defects.drifted",
        "augment.defects.folded",
        "width",
        "batch",
        "objective.student.weights",
        "adam.learning_rate",
        "steps",
        "validation.data",
        "validation.config",
        "validation.thresholds",
        *("device", "threads", "readers", "checkpoint_every", "log_every"),
    },
}


def differing(one: Any, other: Any, key: str = "") -> set[str]:
    """Dotted keys at which two configs differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys()
        parts = (differing(one[k], other[k], f"{key}.{k}") for k in one)
        return set().union(*parts)
    return {key.removeprefix(".")} if one != other else set()


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_is_complete(name: str) -> None:
    """A training config that ships loads, and differs from train-ssem in the keys it explains."""
    one, ssem = (recipe.load(n).model_dump() for n in (name, "train-ssem"))
    assert differing(one, ssem) == DIFFERS[name]


def test_the_student_learns_from_the_teacher_that_ships() -> None:
    """train-distill asks for the very network and crops that train-teacher trains."""
    teacher, distill = recipe.load("train-teacher"), recipe.load("train-distill")
    assert teacher.objective.teacher.network == distill.objective.teacher.network
    crops = [(one.sections, one.width, one.batch) for one in (teacher, distill)]
    assert crops[0] == crops[1]
