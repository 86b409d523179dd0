"""What lies in a run's folder beside its blocks: the group, its arrays, and what a redo deletes.

All of it follows from the rows of the kinds of steps (`cadseg.workers.kinds`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.blocks import zyx
from cadseg.errors import OutputError
from cadseg.pipeline.execution.notes import ATTEMPTS
from cadseg.pipeline.execution.reports import REPORTS
from cadseg.storage import group, outputs
from cadseg.workers.arrays import ARRAYS
from cadseg.workers.checkpoint import FOLDER as CHECKPOINTS
from cadseg.workers.names import FOR_USERS, table_folder
from cadseg.workers.stages import Stage, stages_of

if TYPE_CHECKING:
    from cadseg.blocks import Zyx
    from cadseg.pipeline.prepare import PreparedRun
    from cadseg.storage.files import Files
    from cadseg.workers.store import Store


def make_group(files: Files) -> None:
    """Make the run's group.

    Raises:
        OutputError: it cannot be made there.
    """
    try:
        group.ensure_group(files)
    except OSError as error:
        raise OutputError(
            f"output {files.url}: cannot be made ({error.strerror or error}); choose another "
            "with --out"
        ) from None


def clear(prepared: PreparedRun) -> None:
    """Remove what stages that are redone have left.

    Records first: were the deletion stopped, no record may speak of data that has gone.
    """
    names = [name for stage in prepared.redo for name in leavings(prepared, stage)]
    for name in sorted(names, key=lambda name: not name.startswith("records/")):
        prepared.store.files.remove(name)


def leavings(prepared: PreparedRun, stage: Stage) -> list[str]:
    """Folders of an earlier run that redoing `stage` deletes."""
    files = prepared.store.files
    names = [array for kind in stage.kinds for array in kind.writes]
    tables = [table for kind in stage.kinds for table in kind.tables]
    names += [table_folder(table) for table in tables if table in FOR_USERS]
    found = [name for name in dict.fromkeys(names) if files.list(name)]
    kinds = tuple(kind.name for kind in stage.kinds)
    for folder in ("records", "tables", CHECKPOINTS, ATTEMPTS, REPORTS):
        found += [f"{folder}/{step}" for step in files.list(folder) if step.startswith(kinds)]
    return found


def create_arrays(store: Store) -> None:
    """All arrays that the stages of a run write, all 0, and how the pyramid's lie together."""
    manifest = store.manifest
    names = {name for stage in stages_of(store) for kind in stage.kinds for name in kind.writes}
    levels = [str(level) for level in range(len(manifest.pyramid))]
    for kind in sorted(names):
        if ARRAYS[kind].pyramid:
            for level, factors in zip(levels, manifest.pyramid, strict=True):
                _create(store, kind, f"{kind}/{level}", factors)
        else:
            _create(store, kind, kind, (1, 1, 1))
    group.write_multiscales(
        store.files, levels, manifest.pyramid, manifest.voxel_size_nm, manifest.offset_nm
    )


def _create(store: Store, kind: str, name: str, factors: Zyx) -> None:
    """One array of the run, `factors` times coarser than the volume."""
    z, y, x = (s * f for s, f in zip(store.manifest.voxel_size_nm, factors, strict=True))
    outputs.create_output(
        store.files,
        name,
        lead=ARRAYS[kind].lead,
        shape=zyx(-(-n // f) for n, f in zip(store.grid.shape, factors, strict=True)),
        dtype=ARRAYS[kind].dtype,
        shard=store.grid.block_shape,
        voxel_size_nm=(z, y, x),
        offset_nm=store.manifest.offset_nm,
    )
