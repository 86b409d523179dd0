"""The stages of a run, and the steps that they are made of: one table, from raw to segmentation.

A stage is what a user sees, can stop at, and redoes as a whole. A step is one kind of block: one
task of the schedule. Steps that join blocks come once per level of the grid: up the levels until
one block holds everything, and down again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cadseg.fragments import climb, heights
from cadseg.workers.process import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.blocks import Zyx
    from cadseg.workers.store import Store

CONTEXT: Zyx = (8, 64, 64)
"""What the engine `waterz` reads beyond a block: several fragments, which are 20 or so wide."""


@dataclass(frozen=True)
class Stage:
    """One arrow of the data flow.

    Attributes:
        name: what ``--until`` and ``cadseg status`` call it.
        reads: config keys on which its result depends, beside what the stages before it read.
        arrays: of the run's folder that it writes.
        tables: that it writes.
        kinds: of steps that it may have.
        steps: that do it.
    """

    name: str
    reads: tuple[str, ...]
    arrays: tuple[str, ...]
    tables: tuple[str, ...]
    kinds: tuple[str, ...]
    steps: Callable[[Store], list[Step]]


def steps_of(store: Store, until: str | None = None) -> list[Step]:
    """All steps of a run up to and with the stage `until`, each after those that it needs."""
    found: list[Step] = []
    for stage in stages_of(store):
        found += stage.steps(store)
        if stage.name == until:
            break
    return found


def stages_of(store: Store) -> tuple[Stage, ...]:
    """The stages of a run: without `predict` where it starts from affinities, or keeps none."""
    if store.run["source"] == "affinities":
        return STAGES[1:]
    predict, fragments, *rest = STAGES
    if store.fused:
        return replace(fragments, reads=predict.reads + fragments.reads), *rest
    return STAGES


def _predict(store: Store) -> list[Step]:
    return [Step("predict", "predict", "cadseg.workers.predict")]


def _fragments(store: Store) -> list[Step]:
    config, top = store.config.fragments, store.grid.top
    reach = heights.halo(config.distance_clip, config.sigma) + climb.REACH
    halo = (reach if config.dimensions == 3 else 0, reach, reach)
    steps = [_step("climb", "fragments", halo=halo, after=_raw(store))]
    steps += _climbing("resolve_up", "fragments", range(1, top + 1), before="climb")
    steps += _climbing("resolve_down", "fragments", range(top - 1, 0, -1), before=steps[-1].name)
    return [*steps, _step("fragments", "fragments", after=(steps[-1].name,))]


def _edges(store: Store) -> list[Step]:
    return [_step("edges", "edges", halo=(1, 1, 1), after=("fragments",))]


def _agglomerate(store: Store) -> list[Step]:
    steps = _climbing("agglomerate", "agglomerate", range(store.grid.top + 1), before="edges")
    if store.config.agglomerate.engine == "exact":
        return steps
    steps = [replace(step, work="cadseg.workers.waterz") for step in steps]
    return [replace(steps[0], halo=CONTEXT), *steps[1:]]


def _segment(store: Store) -> list[Step]:
    top = store.grid.top
    last = f"agglomerate-{top}"
    steps = []
    if store.config.segment.min_voxels:
        steps = _climbing("absorb_small", "segment", range(top + 1), before=last)
        last = steps[-1].name
    steps += _climbing("cut", "segment", range(top, 0, -1), before=last)
    last = steps[-1].name if steps else last
    levels = range(1, store.config.segment.pyramid_levels + 1)
    steps.append(_step("segment", "segment", after=(last,)))
    steps += _climbing("measure", "segment", range(1, top + 1), before="segment")
    return steps + _climbing("pyramid", "segment", levels, before="segment")


def _climbing(kind: str, stage: str, levels: range, before: str) -> list[Step]:
    """A step per level, each after the one before."""
    steps = []
    for level in levels:
        steps.append(_step(kind, stage, name=f"{kind}-{level}", level=level, after=(before,)))
        before = steps[-1].name
    return steps


def _step(
    kind: str,
    stage: str,
    *,
    name: str | None = None,
    level: int = 0,
    halo: Zyx = (0, 0, 0),
    after: tuple[str, ...] = (),
) -> Step:
    return Step(name or kind, stage, f"cadseg.workers.{kind}", level, halo, after)


def _raw(store: Store) -> tuple[str, ...]:
    return ("predict",) if store.run["source"] == "raw" and not store.fused else ()


STAGES = (
    Stage(
        "predict",
        reads=(
            "predict.tile",
            "predict.halo",
            "predict.batch",
            "predict.exact_tiling",
            "predict.threads",
            "volume.grey_range",
        ),
        arrays=("affinities",),
        tables=(),
        kinds=("predict",),
        steps=_predict,
    ),
    Stage(
        "fragments",
        reads=("fragments", "volume.mask"),
        arrays=("basins", "fragments"),
        tables=("basins", "exits", "entries", "pairs", "rim", "roots"),
        kinds=("climb", "resolve_up", "resolve_down", "fragments"),
        steps=_fragments,
    ),
    Stage("edges", reads=(), arrays=(), tables=("edges", "faces"), kinds=("edges",), steps=_edges),
    Stage(
        "agglomerate",
        reads=("agglomerate.engine", "agglomerate.scoring", "agglomerate.min_affinity"),
        arrays=(),
        tables=("merges", "rows", "bins", "frozen"),
        kinds=("agglomerate",),
        steps=_agglomerate,
    ),
    Stage(
        "segment",
        reads=("segment",),
        arrays=("segmentation",),
        tables=("cut", "ends", "joins", "parts", "segments", "voxels"),
        kinds=("absorb_small", "cut", "segment", "measure", "pyramid"),
        steps=_segment,
    ),
)

STAGE_NAMES = tuple(stage.name for stage in STAGES)
