"""Spoilt inputs of every kind: one sentence and nothing written, or taken as what they say.

Some of each; ``PYTHONPATH=tests python -m fuzzing KIND N`` tries as many as one likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import fuzzing
import pytest
from fuzzing.case import HangError, held

if TYPE_CHECKING:
    from pathlib import Path

TIMES = {"checkpoint": 20, "run": 40}
"""How many of a kind of which one takes long; `OTHERS` of all others."""

OTHERS = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is spoilt."""
    folder = tmp_path_factory.mktemp("fuzz")
    fuzzing.prepare(folder)
    return folder


@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_spoilt_inputs(kind: str, folder: Path) -> None:
    """A spoilt input is refused in one sentence, with nothing written, or means what it says."""
    for seed in range(TIMES.get(kind, OTHERS)):
        try:
            held(fuzzing.KINDS[kind], seed, folder)
        except (Exception, HangError) as error:
            error.add_note(f"{kind} {seed}")
            raise
