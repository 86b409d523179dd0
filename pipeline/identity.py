"""What each stage of a run is computed from: kept in its manifest, compared when a run goes on.

A stage's *inputs* are plain data, key by key: config keys, the package's version, and for the
stage that reads it, the volume's fingerprint. Its *identity* is a hash of its inputs and of the
identity of the stage before. Number of workers, logging and where to stop are no part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cadseg import __version__
from cadseg.errors import IdentityError, OutputError
from cadseg.pipeline.execution.records import tally
from cadseg.workers import manifest as manifests
from cadseg.workers.manifest import Manifest, Origin
from cadseg.workers.stages import stages_of, steps_of
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from cadseg.workers.stages import Stage

Json = dict[str, Any]

EVERYWHERE = ("block_shape", "volume.roi")
"""Config keys that every stage reads: which blocks there are."""


def identities(
    stages: tuple[Stage, ...],
    config: Mapping[str, Any],
    extra: Mapping[str, Json],
    above: str = "",
) -> dict[str, Origin]:
    """Inputs and identity of each stage.

    Args:
        stages: of the run, in order.
        config: the resolved config, as plain data.
        extra: inputs of single stages that are not in the config, by stage.
        above: identity of the stage before the first of them.
    """
    found = {}
    for stage in stages:
        inputs = {key: _value(config, key) for key in (*EVERYWHERE, *stage.reads)}
        inputs |= {"version": __version__, **extra.get(stage.name, {})}
        text = json.dumps([above, inputs], sort_keys=True)
        above = hashlib.sha256(text.encode()).hexdigest()
        found[stage.name] = Origin(identity=above, inputs=_flat(inputs))
    return found


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys of two stages' inputs that differ, each as ``key (was, now)``."""
    keys = sorted({*was, *now})
    return [
        f"{key} (was {was.get(key)}, now {now.get(key)})"
        for key in keys
        if was.get(key) != now.get(key)
    ]


def with_contents(
    stages: Mapping[str, Origin], found: Mapping[str, dict[str, str]], was: Manifest | None
) -> dict[str, Origin]:
    """Stages with the hashes of all voxels that they read: found now, or known from before.

    Args:
        stages: by name.
        found: by stage and name of the volume.
        was: the manifest of an earlier run in the same place.
    """
    made = {}
    for name, stage in stages.items():
        old = was.stages.get(name) if was else None
        known = old.contents if old and old.identity == stage.identity else {}
        made[name] = stage.model_copy(update={"contents": known | found.get(name, {})})
    return made


def earlier(store: Store) -> Manifest | None:
    """The manifest of an earlier run where `store` will be; `store`'s own where that is damaged.

    For a manifest follows from the command, if what is there was computed from the same inputs.

    Raises:
        OutputError: it is damaged, and there are blocks of other inputs.
    """
    try:
        return manifests.read(store.files)
    except OutputError:
        steps = {step.name: step for step in steps_of(store)}
        there = store.files.list("records")
        if any(name not in steps or not tally(store, steps[name]).blocks for name in there):
            raise
        return store.manifest


def redone(store: Store, was: Manifest | None, *, restart: bool) -> tuple[Stage, ...]:
    """Stages of an earlier run where `store` will be that have to be redone: only if told so.

    Args:
        store: the run, as it will be.
        was: the manifest of the earlier run; None where there is none.
        restart: whether they may be redone.

    Raises:
        IdentityError: there are such stages, and `restart` was not asked for.
    """
    out = store.files.url
    if was is None:
        return ()
    stages = stages_of(store)
    if was.source != store.manifest.source:
        raise IdentityError(f"output {out}: holds a run from {was.source}; choose another --out")
    for place, stage in enumerate(stages):
        old, now = was.stages.get(stage.name), store.origin(stage.name)
        if old is None or (old.identity == now.identity and not _other_voxels(old, now)):
            continue
        below = tuple(s for s in stages[place:] if any(_steps_done(s, store, was)))
        if below and not restart:
            keys = changes(old.inputs, now.inputs) + _other_voxels(old, now)
            raise IdentityError(
                f"output {out}: its stage {stage.name} was computed with other inputs: "
                f"{'; '.join(keys)}; go back to those, choose another --out, or add --restart to "
                f"redo {', '.join(s.name for s in below)}"
            )
        return stages[place:]
    return ()


def _other_voxels(old: Origin, now: Origin) -> list[str]:
    """What differs in the hashes of all voxels, where both are known."""
    both = old.contents.keys() & now.contents.keys()
    was, found = ({f"{key}.content": one.contents[key] for key in both} for one in (old, now))
    return changes(was, found)


def _steps_done(stage: Stage, store: Store, was: Manifest) -> list[str]:
    """Steps of a stage, in this run or as it was, that have any record."""
    runs = (store, Store(store.files, was))
    steps = {step.name for run in runs for step in stage.steps(run)}
    return [step for step in steps if store.files.list(f"records/{step}")]


def _value(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node[part]
    return node


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Json:
    flat: Json = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
