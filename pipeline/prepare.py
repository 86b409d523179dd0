"""Before a run: everything that can be wrong is found here, and nothing is written.

`prepare` turns what a user asks for into a `PreparedRun`: the run's manifest, and what of an
earlier run in the same place would have to go. Each problem is one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np

from cadseg import __version__
from cadseg import config as configs
from cadseg.blocks import Roi, Zyx, zyx
from cadseg.config import Config
from cadseg.errors import ConfigError, OutputError, VolumeError
from cadseg.pipeline.identity import earlier, identities, redone, with_contents
from cadseg.pipeline.verify_input import contents
from cadseg.storage import group, inputs, volume
from cadseg.storage.files import open_files, resolved
from cadseg.storage.fingerprint import fingerprint
from cadseg.workers.manifest import Manifest, NetworkOrigin, Source
from cadseg.workers.stages import Stage, stages_of
from cadseg.workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cadseg.arrays import Array
    from cadseg.config import Override
    from cadseg.pipeline.identity import Json
    from cadseg.storage.files import Files
    from cadseg.storage.volume import Volume

ANISOTROPIC = 2.0
"""Sections thicker than this many voxel widths are segmented with the config for ssEM."""


class Request(TypedDict, total=False):
    """What a user asks for beside the volume; what is left out is None, empty or False.

    Attributes:
        out: where the run lies; None for a sibling of the volume.
        config: itself, its name or file; None for the one that fits the voxels' shape.
        overrides: changes to it, each ``key=value`` or a key and its value.
        until: the last stage to run; None for all.
        restart: redo stages whose inputs changed, and all below them.
        verify_input: read the volume and the mask whole, and compare them with what an earlier run
            in the same place that did so has read.
    """

    out: str | Path | None
    config: str | Config | None
    overrides: Sequence[Override]
    until: str | None
    restart: bool
    verify_input: bool


@dataclass(frozen=True)
class PreparedRun:
    """A run that may start.

    Attributes:
        store: the run, as it will be.
        redo: stages of an earlier run in the same place whose results have to go.
        until: the last stage to run.
        looks: stages of which all files have to be there; None for all. Files of other stages are
            missed where they are needed.
    """

    store: Store
    redo: tuple[Stage, ...]
    until: str | None
    looks: tuple[str, ...] | None = None

    @property
    def out(self) -> str:
        """Where the run lies."""
        return self.store.files.url


def prepare(url: str, *, source: Source = "raw", **request: Unpack[Request]) -> PreparedRun:
    """The run that segments the volume at `url`, once all that can be checked is checked.

    Args:
        url: of raw grey values, or of affinities.
        source: which of the two.
        request: how, where to and how far.

    Raises:
        CadsegError: whatever a user can repair.
    """
    array = volume.open_volume(url)
    chosen = _config(array, request.get("config"), request.get("overrides", ()))
    manifest = _manifest(array, url, source, chosen)
    out = request.get("out")
    store = Store(_free(default_out(url) if out is None else out), manifest)
    until = request.get("until")
    if until is not None and until not in (stage.name for stage in stages_of(store)):
        names = ", ".join(stage.name for stage in stages_of(store))
        raise ConfigError(f"--until {until}: there is no such stage; accepted are {names}")
    tree = chosen.model_dump(mode="json")
    stages = identities(stages_of(store), tree, _extra(array, store))
    voxels = _contents(array, store) if request.get("verify_input") else {}
    store = Store(store.files, manifest.model_copy(update={"stages": stages}))
    was = earlier(store)
    stages = with_contents(stages, voxels, was)
    store = Store(store.files, manifest.model_copy(update={"stages": stages}))
    return PreparedRun(store, redone(store, was, restart=request.get("restart", False)), until)


def recut(
    store: Store, threshold: float | None = None, min_voxels: int | None = None
) -> PreparedRun:
    """The run in `store`, with its merge tree cut by other numbers; None keeps what it has."""
    manifest, tree = store.manifest, store.config.model_dump(mode="json")
    changes = {"threshold": threshold, "min_voxels": min_voxels}
    tree["segment"] |= {key: value for key, value in changes.items() if value is not None}
    config = configs.from_tree(tree, store.files.url)
    last, above = stages_of(store)[-1], store.origin(stages_of(store)[-2].name)
    cut = identities((last,), tree, {last.name: _geometry(manifest)}, above.identity)
    version = above.inputs.get("version")
    if version != __version__:
        raise OutputError(
            f"output {store.files.url}: was computed by cadseg {version}, this is {__version__}; "
            "relabel it with that version, or run it again with this one"
        )
    update = {"config": config, "stages": manifest.stages | cut}
    changed = store.identity(last.name) != cut[last.name].identity
    other = Store(store.files, manifest.model_copy(update=update))
    return PreparedRun(other, (last,) if changed else (), None, looks=(last.name,))


def default_out(url: str) -> str:
    """Where a run of the volume at `url` goes: beside it, or here if it is remote."""
    path = Path(url.rsplit("://", 1)[-1].rstrip("/"))
    roots = [p for p in (path, *path.parents) if p.suffix in (".zarr", ".n5")]
    top = roots[-1] if roots else path
    name = f"{top.name.removesuffix('.zarr')}.cadseg.zarr"
    return name if "://" in url else str(top.with_name(name))


def _free(out: str | Path) -> Files:
    """The place `out`, which a run may have as its own."""
    files = open_files(out)
    try:
        files.room()
        group.check_free(files)
    except (OSError, ValueError) as error:  # as of a name that no file can have
        raise OutputError(f"output {out}: cannot be used ({error}); choose another --out") from None
    return files


def _config(array: Volume, asked: str | Config | None, overrides: Sequence[Override]) -> Config:
    """The config asked for, with the voxel size that holds."""
    chosen = asked if isinstance(asked, Config) else configs.load(asked or "ssem", overrides)
    size = chosen.volume.voxel_size or array.voxel_size_nm
    if size is None:
        raise VolumeError(
            f"volume {array.url}: its metadata names no voxel size; give it in nm with "
            "--voxel-size z,y,x, or as the attribute voxel_size"
        )
    if asked is None and size[0] <= ANISOTROPIC * max(size[1:]):
        chosen = configs.load("fibsem", overrides)
    tree = chosen.model_dump()
    tree["volume"]["voxel_size"] = tuple(float(n) for n in size)
    if chosen.volume.mask is not None:
        tree["volume"]["mask"] = _place("mask", chosen.volume.mask)
    return configs.from_tree(tree, "of the run")


def _place(what: str, url: str) -> str:
    """Where a volume lies, for workers that may start elsewhere, as text."""
    try:
        return resolved(url).encode().decode()
    except (OSError, ValueError) as error:  # no name that a folder can have, or not UTF-8
        raise VolumeError(f"{what} {url}: cannot be opened ({error})") from None


def _manifest(array: Volume, url: str, source: Source, config: Config) -> Manifest:
    """What the run is, but for its stages."""
    if source == "raw":
        inputs.check_raw(array, config)
    else:
        inputs.check_affinities(array)
    if config.volume.mask is not None:
        inputs.check_mask(volume.open_volume(config.volume.mask), array)
    roi = _domain(array, config)
    size = config.volume.voxel_size
    assert size is not None, "a config without the voxel size that holds"
    z, y, x = zip(roi.begin, roi.end, strict=True)
    return Manifest(
        schema=1,
        cadseg=__version__,
        source=source,
        volume=_place("volume", url),
        shape=array.extent,
        roi=(z, y, x),
        voxel_size_nm=size,
        offset_nm=array.offset_nm,
        pyramid=_pyramid(np.array(size), config.segment.pyramid_levels),
        config=config,
        network=_network(config, array.extent) if source == "raw" else None,
        stages={},
    )


def _network(config: Config, shape: Zyx) -> NetworkOrigin:
    """Which weights, by content, on which kind of device; they must fit the tiles."""
    from cadseg.models import tiles, weights
    from cadseg.models.predict import device_kind  # torch takes seconds to import

    path = weights.find(config.predict.weights)
    tiles.check(config.predict, weights.load(path).needs, shape)
    return NetworkOrigin(
        weights=str(path.resolve()),
        weights_sha256=weights.sha256(path),
        device=device_kind(config.predict.device),
    )


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


def _pyramid(voxel_size: Array, levels: int) -> tuple[Zyx, ...]:
    """Factors per level: every step halves the axes along which voxels are not yet the longest."""
    factors = [zyx((1, 1, 1))]
    for _ in range(levels):
        size = voxel_size * factors[-1]
        halves = size * 2 <= max(size.max(), 2 * size.min()) * 1.001
        factors.append(zyx(f * (2 if h else 1) for f, h in zip(factors[-1], halves, strict=True)))
    return tuple(factors)


def _extra(array: Volume, store: Store) -> Mapping[str, Json]:
    """Inputs of single stages beyond the config."""
    extra: dict[str, Json] = {"fragments": {}, "segment": _geometry(store.manifest)}
    first = stages_of(store)[0].name
    extra[first] = extra.get(first, {}) | {"volume": fingerprint(array)}
    if store.manifest.network is not None:
        extra[first] |= store.manifest.network.model_dump(exclude={"weights"})
    if store.mask is not None:
        extra["fragments"]["mask"] = fingerprint(store.mask)
    return extra


def _contents(array: Volume, store: Store) -> Mapping[str, dict[str, str]]:
    """Hashes of all voxels that stages read from outside the run, by stage."""
    first, masked = stages_of(store)[0].name, {}
    if store.mask is not None:
        masked = contents({"mask": store.mask})
    found = {"fragments": masked}
    found[first] = found.get(first, {}) | contents({"volume": array})
    return found


def _geometry(manifest: Manifest) -> Json:
    """What the segmentation's pyramid is made from."""
    return manifest.model_dump(mode="json", include={"voxel_size_nm", "pyramid"})
