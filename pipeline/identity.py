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
from cadseg.errors import IdentityError
from cadseg.workers import manifest as manifests
from cadseg.workers.manifest import Manifest, Origin
from cadseg.workers.stages import stages_of
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


def redone(store: Store, *, restart: bool) -> tuple[Stage, ...]:
    """Stages of an earlier run where `store` will be that have to be redone: only if told so.

    Raises:
        IdentityError: there are such stages, and `restart` was not asked for.
        OutputError: the manifest of the earlier run cannot be read.
    """
    out, was = store.files.url, manifests.read(store.files)
    if was is None:
        return ()
    stages = stages_of(store)
    if was.source != store.manifest.source:
        raise IdentityError(f"output {out}: holds a run from {was.source}; choose another --out")
    for place, stage in enumerate(stages):
        old = was.stages.get(stage.name)
        if old is None or old.identity == store.identity(stage.name):
            continue
        below = tuple(s for s in stages[place:] if any(_steps_done(s, store, was)))
        if below and not restart:
            keys = changes(old.inputs, store.manifest.stages[stage.name].inputs)
            raise IdentityError(
                f"output {out}: its stage {stage.name} was computed with other inputs: "
                f"{'; '.join(keys)}; go back to those, choose another --out, or add --restart to "
                f"redo {', '.join(s.name for s in below)}"
            )
        return stages[place:]
    return ()


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
