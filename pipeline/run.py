"""The whole run: from a volume to its segmentation, in one place, again and again until done.

>>> from cadseg.pipeline.run import Execution, predict
>>> report = predict("volume.zarr", Execution(workers=8))

The same call after any interruption goes on where the last one stopped. What is finished stays:
a failed or stopped run raises, and says so, only after it has kept all it had.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from cadseg.errors import OutputError, StageError
from cadseg.pipeline.execution import verify as verification
from cadseg.pipeline.execution.driver import Execution as Execution
from cadseg.pipeline.execution.driver import run_steps
from cadseg.pipeline.execution.lock import lock
from cadseg.pipeline.execution.outcome import check as check_outcomes
from cadseg.pipeline.execution.outcome import warnings
from cadseg.pipeline.execution.records import largest, tally
from cadseg.pipeline.execution.repair import Repair
from cadseg.pipeline.layout import clear, create_arrays, make_group
from cadseg.pipeline.prepare import PreparedRun, Request, prepare, recut
from cadseg.storage import group
from cadseg.workers import manifest as manifests
from cadseg.workers.checkpoint import FOLDER as CHECKPOINTS
from cadseg.workers.stages import steps_of
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.pipeline.execution.verify import Verified
    from cadseg.workers.records import LostBlockError


@dataclass(frozen=True)
class Report:
    """What a finished run leaves.

    Attributes:
        out: where it lies.
        segmentation: full resolution of the result; None if the run was to stop before.
        warnings: one sentence each.
    """

    out: str
    segmentation: str | None
    warnings: tuple[str, ...] = ()


def execute(prepared: PreparedRun, execution: Execution | None = None) -> Report:
    """Run a prepared run to its end.

    Raises:
        OutputError: the folder cannot be made, or another run works in it.
        StageError: the folder can no longer be written, or does not answer.
        StageError: blocks failed; everything finished is kept.
        Interrupted: Ctrl-C or SIGTERM; everything finished is kept.
    """
    files = prepared.store.files
    make_group(files)
    try:
        with lock(files) as check:
            clear(prepared)
            manifests.write(files, prepared.store.manifest)
            create_arrays(prepared.store)
            steps = steps_of(prepared.store, prepared.until)
            outcomes = run_steps(
                prepared.out, steps, execution or Execution(), looks=prepared.looks, check=check
            )
            if all(outcome.done == outcome.total for outcome in outcomes.values()):
                files.remove(CHECKPOINTS)
    except OSError as error:
        raise StageError(
            f"output {prepared.out}: {error.strerror or error}; what is finished is kept, and the "
            "same command goes on from there when this is mended"
        ) from error
    check_outcomes(outcomes, files.url)
    return _report(prepared, warnings(outcomes, files.url))


def predict(url: str, execution: Execution | None = None, **request: Unpack[Request]) -> Report:
    """Segment a volume of grey values."""
    return execute(prepare(url, source="raw", **request), execution)


def segment(url: str, execution: Execution | None = None, **request: Unpack[Request]) -> Report:
    """Segment a volume of affinities."""
    return execute(prepare(url, source="affinities", **request), execution)


def relabel(
    out: str | Path,
    threshold: float | None = None,
    execution: Execution | None = None,
    *,
    min_voxels: int | None = None,
) -> Report:
    """Cut the merge tree of a finished run by other numbers; rewrites only the segmentation.

    Needs the run at `out` alone: neither the volume, nor the weights, nor the kind of device.
    """
    prepared = recut(with_tree(out), threshold, min_voxels)
    prepared.store.files.room()
    return execute(prepared, execution)


def verify(
    out: str | Path, *, repair: bool = False, workers: int = 1
) -> tuple[Verified, list[LostBlockError]]:
    """Read all files of the run at `out` that its records list; what is damaged.

    Args:
        out: where the run lies.
        repair: have the blocks of damaged files count as not done; the run is locked meanwhile.
        workers: files that are read at the same time.
    """
    store = Store.open(out)
    for array in store.producers:
        if isinstance(array, str):
            store.array(array)  # without its metadata nothing can be read
    with lock(store.files) if repair else contextlib.nullcontext():
        verified, lost = verification.verify(store, steps_of(store), workers)
        if repair:
            Repair(store).withdraw(lost)
        with contextlib.suppress(OSError):  # a run that can only be read can be verified
            verification.write(store.files, verified)
    return verified, lost


def with_tree(out: str | Path) -> Store:
    """The run at `out`, whose merge tree is finished.

    Raises:
        OutputError: there is none.
    """
    store = Store.open(out)
    for step in steps_of(store, "agglomerate"):
        if tally(store, step).blocks < store.grid.count(step.level):
            raise OutputError(
                f"output {out}: has no finished merge tree, since {step.name} is not done; run "
                "cadseg predict or cadseg segment to its end first"
            )
    return store


def _report(prepared: PreparedRun, told: list[str]) -> Report:
    if prepared.until not in (None, "segment"):
        return Report(prepared.out, None, tuple(told))
    warning = _percolation(prepared.store)
    full = f"{prepared.out}/{group.SEGMENTATION}/0"
    return Report(prepared.out, full, (*told, *([] if warning is None else [warning])))


def _percolation(store: Store) -> str | None:
    """A warning when one segment holds more of the volume than the config's share."""
    segment = most = 0
    for step in steps_of(store):
        if "segments" in step.kind.tables:
            found = largest(store, step, "largest_voxels")
            if found.get("largest_voxels", 0) > most:
                segment, most = found["largest"], found["largest_voxels"]
    share = most / store.grid.domain.size
    if share <= store.config.agglomerate.percolation_share:
        return None
    return (
        f"segment {segment} holds {share:.0%} of the volume: neurons have probably run together; "
        "try a higher threshold, as in cadseg relabel --threshold"
    )
