"""Before a run: everything that can be wrong is found here, and nothing is written.

`prepare` turns what a user asks for into a `Job`: the content of ``run.json``, and what of an
earlier run in the same folder would have to go. Each problem is one sentence.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cadseg import __version__
from cadseg import config as configs
from cadseg.blocks import Roi, Zyx, zyx
from cadseg.config import Config
from cadseg.errors import ConfigError, OutputError, VolumeError
from cadseg.pipeline.identity import identities, redone
from cadseg.pipeline.stages import Stage, stages_of
from cadseg.storage import group, inputs, volume
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cadseg.storage.volume import Volume

Source = Literal["raw", "affinities"]
Json = dict[str, Any]

ANISOTROPIC = 2.0
"""Sections thicker than this many voxel widths are segmented with the config for ssEM."""


@dataclass(frozen=True)
class Job:
    """A run that may start.

    Attributes:
        out: its folder.
        run: what its ``run.json`` will hold.
        redo: stages of an earlier run in that folder whose results have to go.
        until: the last stage to run.
    """

    out: Path
    run: Json
    redo: tuple[Stage, ...]
    until: str | None

    @property
    def store(self) -> Store:
        """The run's folder, as it will be."""
        return Store(self.out, self.run)


def prepare(
    url: str,
    *,
    source: Source = "raw",
    out: Path | None = None,
    config: str | Config | None = None,
    overrides: Sequence[str] = (),
    until: str | None = None,
    restart: bool = False,
) -> Job:
    """The run that segments the volume at `url`, once all that can be checked is checked.

    Args:
        url: of raw grey values, or of affinities.
        source: which of the two.
        out: the run's folder; None for a sibling of the volume.
        config: itself, its name or file; None for the one that fits the voxels' shape.
        overrides: ``key=value`` changes to it.
        until: the last stage to run; None for all.
        restart: redo stages whose inputs changed, and all below them.

    Raises:
        CadsegError: whatever a user can repair.
    """
    array = volume.open_volume(url)
    chosen = _config(array, config, overrides)
    run = _run_of(array, url, source, chosen)
    folder = out or default_out(url)
    _check_out(folder)
    store = Store(folder, run)
    if until is not None and until not in (stage.name for stage in stages_of(store)):
        names = ", ".join(stage.name for stage in stages_of(store))
        raise ConfigError(f"--until {until}: there is no such stage; accepted are {names}")
    run["stages"] = identities(stages_of(store), run["config"], _extra(array, store))
    redo = redone(folder, store, restart=restart)
    return Job(folder, run, redo, until)


def recut(store: Store, threshold: float | None = None, min_voxels: int | None = None) -> Job:
    """The run in `store`, with its merge tree cut by other numbers; None keeps what it has."""
    tree = store.config.model_dump(mode="json")
    changes = {"threshold": threshold, "min_voxels": min_voxels}
    tree["segment"] |= {key: value for key, value in changes.items() if value is not None}
    config = configs.from_tree(tree, str(store.out))
    _check_config(config)
    last, above = stages_of(store)[-1], stages_of(store)[-2].name
    known = store.run["stages"]
    run: Json = {**store.run, "config": config.model_dump(mode="json")}
    extra = {last.name: _geometry(run)}
    run["stages"] = known | identities((last,), run["config"], extra, store.identity(above))
    version = known[above]["inputs"]["version"]
    if version != __version__:
        raise OutputError(
            f"output {store.out}: was computed by cadseg {version}, this is {__version__}; relabel "
            "it with that version, or run it again with this one"
        )
    changed = known[last.name]["identity"] != run["stages"][last.name]["identity"]
    return Job(store.out, run, (last,) if changed else (), None)


def default_out(url: str) -> Path:
    """Where a run of the volume at `url` goes: beside it, or here if it is remote."""
    path = Path(url.rsplit("://", 1)[-1].rstrip("/"))
    roots = [p for p in (path, *path.parents) if p.suffix in (".zarr", ".n5")]
    top = roots[-1] if roots else path
    name = f"{top.name.removesuffix('.zarr')}.cadseg.zarr"
    return Path(name) if "://" in url else top.with_name(name)


def _config(array: Volume, asked: str | Config | None, overrides: Sequence[str]) -> Config:
    """The config asked for, with the voxel size that holds."""
    chosen = asked if isinstance(asked, Config) else configs.load(asked or "ssem", overrides)
    size = chosen.volume.voxel_size or array.voxel_size_nm
    if size is None:
        raise VolumeError(
            f"volume {array.url}: its metadata names no voxel size; give it in nm with "
            "--voxel-size z,y,x, or as the attribute voxel_size"
        )
    if min(size) <= 0:
        raise ConfigError(f"voxel size {size}; accepted are three lengths in nm above 0")
    if asked is None and size[0] <= ANISOTROPIC * max(size[1:]):
        chosen = configs.load("fibsem", overrides)
    tree = chosen.model_dump()
    tree["volume"]["voxel_size"] = tuple(float(n) for n in size)
    mask = chosen.volume.mask
    if mask is not None and "://" not in mask:
        tree["volume"]["mask"] = str(Path(mask).resolve())  # workers may start elsewhere
    chosen = configs.from_tree(tree, "of the run")
    _check_config(chosen)
    return chosen


def _check_config(config: Config) -> None:
    """What no single key can say."""
    if config.agglomerate.engine == "waterz" and not config.predict.keep_affinities:
        raise ConfigError(
            "agglomerate.engine is waterz, which reads affinities, but predict.keep_affinities is "
            "false; accepted is the engine exact, or affinities that are kept"
        )
    threshold, floor = config.segment.threshold, config.agglomerate.min_affinity
    if threshold < floor:
        raise ConfigError(
            f"segment.threshold is {threshold}, below agglomerate.min_affinity, {floor}, under "
            "which merges are not computed; choose a higher threshold or a lower floor"
        )


def _run_of(array: Volume, url: str, source: Source, config: Config) -> Json:
    """The content of ``run.json``, but for the stages."""
    if source == "raw":
        inputs.check_raw(array, config)
    else:
        inputs.check_affinities(array)
    if config.volume.mask is not None:
        inputs.check_mask(volume.open_volume(config.volume.mask), array)
    roi = _domain(array, config)
    size = np.array(config.volume.voxel_size)
    run: Json = {
        "cadseg": __version__,
        "source": source,
        "volume": url if "://" in url else str(Path(url).resolve()),
        "shape": list(array.extent),
        "roi": [list(pair) for pair in zip(roi.begin, roi.end, strict=True)],
        "voxel_size_nm": [float(n) for n in size],
        "offset_nm": list(array.offset_nm),
        "affinity_dtype": "uint8",
        "pyramid": _pyramid(size, config.segment.pyramid_levels),
        "config": config.model_dump(mode="json"),
    }
    if source == "raw":
        run |= _network(config, array.extent)
    return run


def _network(config: Config, shape: Zyx) -> Json:
    """Which weights, by content, on which kind of device; they must fit the tiles."""
    from cadseg.models import tiles, weights
    from cadseg.models.predict import device_kind  # torch takes seconds to import

    path = weights.find(config.predict.weights)
    tiles.check(config.predict, weights.load(path).needs, shape)
    return {
        "weights": str(path.resolve()),
        "weights_sha256": weights.sha256(path),
        "device": device_kind(config.predict.device),
    }


def _domain(array: Volume, config: Config) -> Roi:
    """The part of the volume to segment."""
    whole = Roi((0, 0, 0), array.extent)
    if whole.size == 0:
        raise VolumeError(f"volume {array.url}: has the shape {array.shape}, without a voxel")
    if config.volume.roi is None:
        return whole
    begin, end = zip(*config.volume.roi, strict=True)
    roi = Roi(zyx(begin), zyx(end))
    if roi.size == 0 or not whole.contains(roi):
        raise ConfigError(
            f"roi {roi}: holds no voxel or leaves the volume; accepted are boxes within {whole}"
        )
    return roi


def _pyramid(voxel_size: np.ndarray[Any, Any], levels: int) -> list[list[int]]:
    """Factors per level: every step halves the axes along which voxels are not yet the longest."""
    factors = [[1, 1, 1]]
    for _ in range(levels):
        size = voxel_size * factors[-1]
        halves = size * 2 <= max(size.max(), 2 * size.min()) * 1.001
        factors.append([f * (2 if h else 1) for f, h in zip(factors[-1], halves, strict=True)])
    return factors


def _extra(array: Volume, store: Store) -> Mapping[str, Json]:
    """Inputs of single stages beyond the config."""
    extra: dict[str, Json] = {"fragments": {}, "segment": _geometry(store.run)}
    first = stages_of(store)[0].name
    extra[first] = extra.get(first, {}) | {"volume": array.fingerprint()}
    if store.run["source"] == "raw":
        extra[first] |= {key: store.run[key] for key in ("weights_sha256", "device")}
    if store.mask is not None:
        extra["fragments"]["mask"] = store.mask.fingerprint()
    return extra


def _geometry(run: Mapping[str, Any]) -> Json:
    """What the segmentation's pyramid is made from."""
    return {key: run[key] for key in ("voxel_size_nm", "pyramid")}


def _check_out(out: Path) -> None:
    """Refuse a folder that is not ours, or that cannot be written."""
    group.check_free(out)
    there = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not there.is_dir():
        raise OutputError(f"output {out}: {there} is no folder; choose another with --out")
    if not os.access(there, os.W_OK) or os.statvfs(there).f_flag & os.ST_RDONLY:
        raise OutputError(f"output {out}: {there} is not writable; choose another with --out")
