"""The whole run: from a volume to its segmentation, in one folder, again and again until done.

>>> from cadseg.pipeline.run import Execution, predict
>>> report = predict("volume.zarr", Execution(workers=8))

The same call after any interruption goes on where the last one stopped. What is finished stays:
a failed or stopped run raises, and says so, only after it has kept all it had.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadseg.blocks import Zyx, zyx
from cadseg.errors import OutputError, StageError
from cadseg.pipeline.execution.driver import Execution as Execution
from cadseg.pipeline.execution.driver import run_steps
from cadseg.pipeline.execution.lock import claim
from cadseg.pipeline.execution.outcome import check
from cadseg.pipeline.execution.records import records
from cadseg.pipeline.prepare import PreparedRun, prepare, recut
from cadseg.pipeline.stages import Stage, stages_of, steps_of
from cadseg.storage import group, tables, volume
from cadseg.workers.arrays import ARRAYS
from cadseg.workers.store import RUN_FILE, Store

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Report:
    """What a finished run leaves.

    Attributes:
        out: its folder.
        segmentation: full resolution of the result; None if the run was to stop before.
        warnings: one sentence each.
    """

    out: Path
    segmentation: Path | None
    warnings: tuple[str, ...] = ()


def execute(prepared: PreparedRun, execution: Execution | None = None) -> Report:
    """Compute a prepared run to its end.

    Raises:
        OutputError: the folder cannot be made, or another run works in it.
        StageError: the folder can no longer be written.
        StageError: blocks failed; everything finished is kept.
        Interrupted: Ctrl-C or SIGTERM; everything finished is kept.
    """
    _make_folder(prepared.out)
    try:
        with claim(prepared.out):
            _clear(prepared)
            text = json.dumps(prepared.run, indent=1)
            tables.replace(prepared.out / RUN_FILE, text.encode())
            create_arrays(prepared)
            steps = steps_of(prepared.store, prepared.until)
            outcomes = run_steps(prepared.out, steps, execution or Execution())
    except OSError as error:
        raise StageError(f"output {prepared.out}: {error}; what is finished is kept") from error
    check(outcomes, prepared.out)
    return _report(prepared)


def predict(url: str, execution: Execution | None = None, **request: object) -> Report:
    """Segment a volume of grey values; `request` as in `prepare`."""
    return execute(prepare(url, source="raw", **request), execution)  # type: ignore[arg-type]


def segment(url: str, execution: Execution | None = None, **request: object) -> Report:
    """Segment a volume of affinities; `request` as in `prepare`."""
    return execute(prepare(url, source="affinities", **request), execution)  # type: ignore[arg-type]


def relabel(
    out: Path,
    threshold: float | None = None,
    execution: Execution | None = None,
    *,
    min_voxels: int | None = None,
) -> Report:
    """Cut the merge tree of a finished run by other numbers; rewrites only the segmentation.

    Needs the folder `out` alone: neither the volume, nor the weights, nor the kind of device.
    """
    return execute(recut(with_tree(out), threshold, min_voxels), execution)


def with_tree(out: Path) -> Store:
    """The run in the folder `out`, whose merge tree is finished.

    Raises:
        OutputError: there is none.
    """
    store = opened(out)
    for step in steps_of(store, "agglomerate"):
        if len(records(store, step)) < store.grid.count(step.level):
            raise OutputError(
                f"output {out}: has no finished merge tree, since {step.name} is not done; run "
                "cadseg predict or cadseg segment to its end first"
            )
    return store


def opened(out: Path) -> Store:
    """The run in the folder `out`.

    Raises:
        OutputError: there is none.
    """
    if not group.is_ours(out) or not (out / RUN_FILE).is_file():
        raise OutputError(f"output {out}: holds no run; accepted is the folder of an earlier run")
    return Store.open(out)


def residue(out: Path) -> list[dict[str, int]]:
    """Per level of the agglomeration: edges that came in, merges made, edges that went up."""
    store = Store.open(out)
    levels = []
    for step in steps_of(store):
        if step.stage != "agglomerate":
            continue
        counts = [record["counts"] for record in records(store, step).values()]
        levels.append({key: sum(c[key] for c in counts) for key in ("edges", "merges", "left")})
    return levels


def _make_folder(out: Path) -> None:
    try:
        group.ensure_group(out)
    except OSError as error:
        raise OutputError(
            f"output {out}: cannot be made ({error.strerror or error}); choose another with --out"
        ) from None


def _clear(prepared: PreparedRun) -> None:
    """Remove what stages that are redone have left.

    Records first: were the deletion stopped, no record may speak of data that has gone.
    """
    paths = [path for stage in prepared.redo for path in leavings(prepared, stage)]
    for path in sorted(paths, key=lambda path: path.parent.name != "records"):
        shutil.rmtree(path, ignore_errors=True)


def leavings(prepared: PreparedRun, stage: Stage) -> list[Path]:
    """Folders of an earlier run that redoing `stage` deletes."""
    paths = [prepared.out / array for kind in stage.kinds for array in kind.writes]
    paths += [prepared.store.table_folder(table) for kind in stage.kinds for table in kind.tables]
    for folder in ("records", "tracking", "logs/attempts"):
        paths += [p for kind in stage.kinds for p in (prepared.out / folder).glob(f"{kind.name}*")]
    return [path for path in dict.fromkeys(paths) if path.exists()]


def create_arrays(prepared: PreparedRun) -> None:
    """All arrays that the stages of a run write, without a voxel."""
    store, run = prepared.store, prepared.run
    names = {name for stage in stages_of(store) for kind in stage.kinds for name in kind.writes}
    for name in sorted(names):
        if ARRAYS[name].pyramid:
            for level in range(len(run["pyramid"])):
                _create(prepared, name, f"{name}/{level}", store.pyramid_factors(level))
        else:
            _create(prepared, name, name, (1, 1, 1))
    group.write_multiscales(
        prepared.out,
        [str(level) for level in range(len(run["pyramid"]))],
        [zyx(factors) for factors in run["pyramid"]],
        tuple(run["voxel_size_nm"]),
        tuple(run["offset_nm"]),
    )


def _create(prepared: PreparedRun, kind: str, name: str, factors: Zyx) -> None:
    """One array of the run, `factors` times coarser than the volume."""
    z, y, x = (s * f for s, f in zip(prepared.run["voxel_size_nm"], factors, strict=True))
    volume.create_output(
        prepared.out,
        name,
        lead=ARRAYS[kind].lead,
        shape=zyx(-(-n // f) for n, f in zip(prepared.store.grid.shape, factors, strict=True)),
        dtype=ARRAYS[kind].dtype,
        shard=prepared.store.grid.block_shape,
        voxel_size_nm=(z, y, x),
        offset_nm=tuple(prepared.run["offset_nm"]),
    )


def _report(prepared: PreparedRun) -> Report:
    if prepared.until not in (None, "segment"):
        return Report(prepared.out, None)
    warning = _percolation(prepared.store)
    return Report(
        prepared.out, prepared.out / "segmentation" / "0", () if warning is None else (warning,)
    )


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
