"""All kinds of steps, in the order in which a block meets them.

A new kind is one worker file that ends with its row, the row's place in this table, and the place
of its step in `cadseg.workers.stages`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.workers import (
    absorb_small,
    agglomerate,
    climb,
    cut,
    edges,
    fragments,
    measure,
    predict,
    pyramid,
    resolve_down,
    resolve_up,
    segment,
    waterz,
)

if TYPE_CHECKING:
    from cadseg.workers.step import StepKind

_WORKERS = (
    predict,
    *(climb, resolve_up, resolve_down, fragments),
    edges,
    *(agglomerate, waterz),
    *(absorb_small, cut, segment, measure, pyramid),
)
KINDS: dict[str, StepKind] = {worker.KIND.name: worker.KIND for worker in _WORKERS}
