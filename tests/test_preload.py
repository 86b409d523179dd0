"""What a worker's first blocks would wait for is loaded before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.pipeline.execution import preload as preloading
from cadseg.workers.kinds import KINDS

if TYPE_CHECKING:
    import pytest

    from cadseg.blocks import Zyx
    from cadseg.workers.step import Step
    from cadseg.workers.store import Store


def test_every_kind_of_step_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All kinds are computed but the network, which forks would not survive, and waterz."""
    done: dict[str, int] = {}
    process = preloading.process

    def noted(store: Store, step: Step, cell: Zyx) -> None:
        process(store, step, cell)
        record = store.record(step, cell)
        assert record is not None
        done[step.kind.name] = done.get(step.kind.name, 0) + 1

    monkeypatch.setattr(preloading, "process", noted)
    preloading.preload()
    assert set(done) | {"predict", "waterz"} == set(KINDS)
    assert (done["climb"], done["agglomerate"]) == (3, 3 + 2 + 1)
