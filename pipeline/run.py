"""The whole job: from a volume to its segmentation, in one place, again and again until done.

>>> from cadseg.pipeline.run import How, predict
>>> report = predict("volume.zarr", How(workers=8))

The same call after any interruption goes on where the last one stopped. What is finished stays:
a failed or stopped run raises, and says so, only after it has kept all it had.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cadseg.blocks import Zyx, zyx
from cadseg.errors import OutputError, StageError
from cadseg.pipeline.execution import status
from cadseg.pipeline.execution.lock import lock
from cadseg.pipeline.execution.progress import Progress
from cadseg.pipeline.execution.schedule import StepOutcome, run_steps
from cadseg.pipeline.prepare import Job, prepare, recut
from cadseg.pipeline.stages import Stage, steps_of
from cadseg.storage import group, outputs
from cadseg.workers import manifest as manifests
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.storage.files import Files


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


@dataclass(frozen=True)
class How:
    """How to run: nothing of it changes the result.

    Attributes:
        workers: processes that compute at the same time.
        serial: compute in this process, for debugging.
        retries: how often a failed block is tried again.
        timeout: seconds that a block may take; None: from the blocks measured so far.
        tracking: folder on a local disk for the schedule's own notes; None: in the run's folder.
        progress: where progress goes.
    """

    workers: int = 1
    serial: bool = False
    retries: int = 2
    timeout: float | None = None
    tracking: Path | None = None
    progress: Progress = field(default_factory=Progress)


def execute(job: Job, how: How | None = None) -> Report:
    """Run a prepared job to its end.

    Raises:
        OutputError: the folder cannot be made, or another run works in it.
        StageError: the folder can no longer be written.
        StageError: blocks failed; everything finished is kept.
        Interrupted: Ctrl-C or SIGTERM; everything finished is kept.
    """
    how = how or How()
    files = job.store.files
    _make_group(files)
    try:
        with lock(files):
            _clear(job)
            manifests.write(files, job.store.manifest)
            create_arrays(job.store)
            steps = steps_of(job.store, job.until)
            outcomes = run_steps(
                job.out,
                steps,
                workers=how.workers,
                serial=how.serial,
                retries=how.retries,
                timeout=how.timeout,
                tracking=how.tracking,
                show=how.progress,
            )
    except OSError as error:
        raise StageError(f"output {job.out}: {error}; what is finished is kept") from error
    _check(outcomes, files)
    return _report(job)


def predict(url: str, how: How | None = None, **request: object) -> Report:
    """Segment a volume of grey values; `request` as in `prepare`."""
    return execute(prepare(url, source="raw", **request), how)  # type: ignore[arg-type]


def segment(url: str, how: How | None = None, **request: object) -> Report:
    """Segment a volume of affinities; `request` as in `prepare`."""
    return execute(prepare(url, source="affinities", **request), how)  # type: ignore[arg-type]


def relabel(
    out: str | Path,
    threshold: float | None = None,
    how: How | None = None,
    *,
    min_voxels: int | None = None,
) -> Report:
    """Cut the merge tree of a finished run by other numbers; rewrites only the segmentation.

    Needs the run at `out` alone: neither the volume, nor the weights, nor the kind of device.
    """
    return execute(recut(with_tree(out), threshold, min_voxels), how)


def with_tree(out: str | Path) -> Store:
    """The run at `out`, whose merge tree is finished.

    Raises:
        OutputError: there is none.
    """
    store = Store.open(out)
    for step in steps_of(store, "agglomerate"):
        if len(status.records(store, step)) < store.grid.count(step.level):
            raise OutputError(
                f"output {out}: has no finished merge tree, since {step.name} is not done; run "
                "cadseg predict or cadseg segment to its end first"
            )
    return store


def residue(out: str | Path) -> list[dict[str, int]]:
    """Per level of the agglomeration: edges that came in, merges made, edges that went up."""
    store = Store.open(out)
    levels = []
    for level in range(store.grid.top + 1):
        step = f"agglomerate-{level}"
        records = [store.record(step, "agglomerate", cell) for cell in store.grid.cells(level)]
        counts = [record["counts"] for record in records if record is not None]
        levels.append({key: sum(c[key] for c in counts) for key in ("edges", "merges", "left")})
    return levels


def _make_group(files: Files) -> None:
    try:
        group.ensure_group(files)
    except OSError as error:
        raise OutputError(
            f"output {files.url}: cannot be made ({error.strerror or error}); choose another "
            "with --out"
        ) from None


def _clear(job: Job) -> None:
    """Remove what stages that are redone have left.

    Records first: were the deletion stopped, no record may speak of data that has gone.
    """
    names = [name for stage in job.redo for name in leavings(job, stage)]
    for name in sorted(names, key=lambda name: not name.startswith("records/")):
        job.store.files.remove(name)


def leavings(job: Job, stage: Stage) -> list[str]:
    """Folders of an earlier run that redoing `stage` deletes."""
    files = job.store.files
    names = [*stage.arrays, *(job.store.table_folder(table) for table in stage.tables)]
    found = [name for name in names if files.list(name)]
    for folder in ("records", "tracking", status.ATTEMPTS):
        steps = [step for step in files.list(folder) if step.startswith(stage.kinds)]
        found += [f"{folder}/{step}" for step in steps]
    return found


def create_arrays(store: Store) -> None:
    """The arrays of a run, all 0, and what says how they lie together."""
    manifest = store.manifest
    if manifest.source == "raw" and not store.fused:
        _create(store, "affinities", lead=(3,), dtype="uint8")
    _create(store, "basins", dtype="uint32")
    _create(store, "fragments")
    for level, factors in enumerate(manifest.pyramid):
        _create(store, f"segmentation/{level}", factors=factors)
    group.write_multiscales(
        store.files,
        [str(level) for level in range(len(manifest.pyramid))],
        manifest.pyramid,
        manifest.voxel_size_nm,
        manifest.offset_nm,
    )


def _create(
    store: Store,
    name: str,
    *,
    lead: tuple[int, ...] = (),
    dtype: str = "uint64",
    factors: Zyx = (1, 1, 1),
) -> None:
    """One array of the run, `factors` times coarser than the volume."""
    z, y, x = (s * f for s, f in zip(store.manifest.voxel_size_nm, factors, strict=True))
    outputs.create_output(
        store.files,
        name,
        lead=lead,
        shape=zyx(-(-n // f) for n, f in zip(store.grid.shape, factors, strict=True)),
        dtype=dtype,
        shard=store.grid.block_shape,
        voxel_size_nm=(z, y, x),
        offset_nm=store.manifest.offset_nm,
    )


def _check(outcomes: dict[str, StepOutcome], files: Files) -> None:
    """Raise for the first step that has failed blocks."""
    for name, outcome in outcomes.items():
        if outcome.failed:
            first = outcome.failures[0]
            raise StageError(
                f"{name}: {outcome.failed} of {outcome.total} blocks failed, first block "
                f"{'.'.join(map(str, first.cell))}: {first.error} (see {first.log}); what is "
                f"finished in {files.url} is kept, and the same command goes on from there"
            )
    for name, outcome in outcomes.items():
        if outcome.left:
            raise StageError(
                f"{name}: {outcome.left} of {outcome.total} blocks could not even leave a note; "
                f"has the disk of {files.url} room, and may we write there? See {files.url}/logs; "
                "what is finished is kept, and the same command goes on from there"
            )


def _report(job: Job) -> Report:
    if job.until not in (None, "segment"):
        return Report(job.out, None)
    warning = _percolation(job.store)
    full = f"{job.out}/{group.SEGMENTATION}/0"
    return Report(job.out, full, () if warning is None else (warning,))


def _percolation(store: Store) -> str | None:
    """A warning when one segment holds more of the volume than the config's share."""
    largest, most = 0, 0
    for level in range(store.grid.top + 1):
        for cell in store.grid.cells(level):
            table = store.read_table("segments", level, cell, ("segment", "voxels"))
            if table["voxels"].max(initial=0) > most:
                place = table["voxels"].argmax()
                largest, most = int(table["segment"][place]), int(table["voxels"][place])
    share = most / store.grid.domain.size
    if share <= store.config.agglomerate.percolation_share:
        return None
    return (
        f"segment {largest} holds {share:.0%} of the volume: neurons have probably run together; "
        "try a higher threshold, as in cadseg relabel --threshold"
    )
