"""The stages of a run, and the steps that they are made of: one table, from raw to segmentation.

A stage is what a user sees, can stop at, and redoes as a whole. Its steps are of the
kinds of `cadseg.workers.kinds`. Kinds that join blocks have a step per level of the grid: up the
levels until one block holds everything, or down again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cadseg.fragments import climb, heights
from cadseg.workers.kinds import KINDS
from cadseg.workers.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cadseg.blocks import Zyx
    from cadseg.workers.step import StepKind
    from cadseg.workers.store import Store

CONTEXT: Zyx = (8, 64, 64)
"""What the engine `waterz` reads beyond a block: several fragments, which are 20 or so wide."""


@dataclass(frozen=True)
class Stage:
    """One arrow of the data flow.

    Attributes:
        name: what ``--until`` and ``cadseg status`` call it.
        reads: config keys on which its result depends, beside what the stages before it read.
        kinds: of steps that it may have.
        steps: that do it.
    """

    name: str
    reads: tuple[str, ...]
    kinds: tuple[StepKind, ...]
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
    stages = STAGES
    if store.manifest.source == "affinities" or store.fused:
        stages = {name: stage for name, stage in STAGES.items() if name != "predict"}
    if store.fused:
        reads = STAGES["predict"].reads + STAGES["fragments"].reads
        stages["fragments"] = replace(STAGES["fragments"], reads=reads)
    return tuple(stages.values())


def _predict(store: Store) -> list[Step]:
    return [_step("predict", "predict")]


def _fragments(store: Store) -> list[Step]:
    config, top = store.config.fragments, store.grid.top
    reach = heights.halo(config.distance_clip, config.sigma) + climb.REACH
    halo = (reach if config.dimensions == 3 else 0, reach, reach)
    predicted = store.manifest.source == "raw" and not store.fused
    steps = [_step("climb", "fragments", halo=halo, after=("predict",) if predicted else ())]
    steps += _chain("resolve_up", "fragments", range(1, top + 1), before="climb")
    steps += _chain("resolve_down", "fragments", range(top, 0, -1), before=steps[-1].name)
    return [*steps, _step("fragments", "fragments", after=(steps[-1].name,))]


def _edges(store: Store) -> list[Step]:
    return [_step("edges", "edges", halo=(1, 1, 1), after=("fragments",))]


def _agglomerate(store: Store) -> list[Step]:
    levels = range(store.grid.top + 1)
    if store.config.agglomerate.engine == "exact":
        return _chain("agglomerate", "agglomerate", levels, before="edges")
    first, *upper = _chain("waterz", "agglomerate", levels, before="edges")
    return [replace(first, halo=CONTEXT), *upper]


def _segment(store: Store) -> list[Step]:
    top = store.grid.top
    last = _agglomerate(store)[-1].name
    steps = []
    if store.config.segment.min_voxels:
        steps = _chain("absorb_small", "segment", range(top + 1), before=last)
        last = steps[-1].name
    steps += _chain("cut", "segment", range(top, 0, -1), before=last)
    last = steps[-1].name if steps else last
    levels = range(1, store.config.segment.pyramid_levels + 1)
    steps.append(_step("segment", "segment", after=(last,)))
    steps += _chain("measure", "segment", range(1, max(1, top) + 1), before="segment")
    return steps + _chain("pyramid", "segment", levels, before="segment")


def _chain(kind: str, stage: str, levels: Iterable[int], before: str) -> list[Step]:
    """A step per level, each after the one before."""
    steps = []
    for level in levels:
        steps.append(_step(kind, stage, level=level, after=(before,)))
        before = steps[-1].name
    return steps


def _step(
    kind: str, stage: str, *, level: int = 0, halo: Zyx = (0, 0, 0), after: tuple[str, ...] = ()
) -> Step:
    return Step(KINDS[kind], stage, level, halo, after)


def _stage(
    name: str, steps: Callable[[Store], list[Step]], *, reads: tuple[str, ...], kinds: str
) -> Stage:
    return Stage(name, reads, tuple(KINDS[kind] for kind in kinds.split()), steps)


_TILES = ("predict.tile", "predict.halo", "predict.batch", "predict.exact_tiling")

STAGES = {
    stage.name: stage
    for stage in (
        _stage(
            "predict",
            _predict,
            reads=(*_TILES, "predict.threads", "volume.grey_range"),
            kinds="predict",
        ),
        _stage(
            "fragments",
            _fragments,
            reads=("fragments", "volume.mask"),
            kinds="climb resolve_up resolve_down fragments",
        ),
        _stage("edges", _edges, reads=(), kinds="edges"),
        _stage(
            "agglomerate",
            _agglomerate,
            reads=("agglomerate.engine", "agglomerate.scoring", "agglomerate.min_affinity"),
            kinds="agglomerate waterz",
        ),
        _stage(
            "segment",
            _segment,
            reads=("segment",),
            kinds="absorb_small cut segment measure pyramid",
        ),
    )
}
