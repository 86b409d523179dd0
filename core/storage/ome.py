"""Where a volume lies in the world: voxel sizes and offsets in metadata, read and written.

Read: OME-NGFF ``multiscales`` (0.4 and 0.5) of a group; ``voxel_size`` or ``resolution``,
``offset`` and ``units`` of an array, as funlib.persistence writes them. Sizes are z, y, x in nm. A
size without a unit is taken as nm; 1, 1, 1 without a unit is how "unknown" is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cadseg.blocks import Zyx

Size = tuple[float, float, float]
Json = dict[str, Any]

ORIGIN: Size = (0.0, 0.0, 0.0)

FARTHEST = 1e12
"""Nm from the origin: a kilometre, which in fm still is a 64-bit integer."""

_PER_UNIT = {"meter": 1e9, "millimeter": 1e6, "micrometer": 1e3, "nanometer": 1.0}
_PER_UNIT |= {"angstrom": 0.1, "picometer": 1e-3, "femtometer": 1e-6}
_SHORT = {"m": "meter", "mm": "millimeter", "um": "micrometer", "µm": "micrometer"}
_SHORT |= {"micron": "micrometer", "nm": "nanometer", "pm": "picometer", "fm": "femtometer"}


@dataclass(frozen=True)
class Geometry:
    """Size of a voxel, and place of the volume's first corner, in nm, z y x."""

    voxel_size_nm: Size
    offset_nm: Size


def multiscale(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first image of an OME-Zarr group, or None where the group is none."""
    ome = attributes.get("ome", attributes)
    images = ome.get("multiscales") if isinstance(ome, Mapping) else None
    if not images:
        return None
    (image, *_) = _mappings(images, "multiscales")
    return image


def of_level(image: Mapping[str, Any], level: Mapping[str, Any]) -> Geometry | None:
    """Geometry of one of an image's datasets; None where its metadata says nothing.

    Raises:
        ValueError: the last three axes are not z, y, x; a unit is no length, or a number none.
    """
    axes = [a if isinstance(a, Mapping) else {"name": a} for a in image.get("axes", "zyx")]
    names = [str(a.get("name")).lower() for a in axes][-3:]
    if names != ["z", "y", "x"]:
        raise ValueError(f"its last axes are {', '.join(names)}; accepted are z, y, x")
    size, corner = [1.0] * 3, [0.0] * 3
    for step in [*_steps(level), *_steps(image)]:
        if "scale" in step:
            scale = _three(step["scale"], "scale")
            size = [a * b for a, b in zip(size, scale, strict=True)]
            corner = [a * b for a, b in zip(corner, scale, strict=True)]
        if "translation" in step:
            shift = _three(step["translation"], "translation")
            corner = [a + b for a, b in zip(corner, shift, strict=True)]
    return _geometry(size, corner, [a.get("unit") for a in axes][-3:])


def of_array(attributes: Mapping[str, Any]) -> Geometry | None:
    """Geometry that an array's own attributes name; None where they name none.

    Raises:
        ValueError: a unit is not a length, or a number is none.
    """
    size = attributes.get("voxel_size", attributes.get("resolution"))
    if size is None or (isinstance(size, list) and len(size) < 3):
        return None
    units = attributes.get("units") or [None]
    if not isinstance(units, list):
        raise ValueError(f"its units are {units!r}; accepted is a list of units")
    units = units[-3:] if len(units) >= 3 else units[-1:] * 3
    offset = attributes.get("offset") or [0, 0, 0]
    return _geometry(_three(size, "voxel size"), _three(offset, "offset"), units)


def array_attributes(voxel_size_nm: Size | None, offset_nm: Size, channels: int) -> Json:
    """What funlib.persistence reads: whole numbers only, in the largest unit where they are whole.

    funlib.persistence cuts fractions off (33.3 nm becomes 33), so 33.3 nm is written as 33300 pm.
    """
    attributes: Json = {
        "axis_names": ["c^"] * channels + ["z", "y", "x"],
        "types": ["channel"] * channels + ["space"] * 3,
    }
    if voxel_size_nm is None:
        return attributes
    values = [*voxel_size_nm, *offset_nm]
    for unit in ("nm", "pm", "fm"):
        scaled = [v / _PER_UNIT[_SHORT[unit]] for v in values]
        if all(math.isclose(v, round(v), rel_tol=1e-9, abs_tol=1e-6) for v in scaled):
            break
    whole = [round(v) for v in scaled]
    return attributes | {"voxel_size": whole[:3], "offset": whole[3:], "units": [unit] * 3}


def multiscales_attributes(
    name: str,
    levels: Sequence[str],
    factors: Sequence[Zyx],
    voxel_size_nm: Size | None,
    offset_nm: Size,
) -> Json:
    """OME-NGFF 0.5 metadata of an image whose level i is `factors[i]` times coarser per axis."""
    size = voxel_size_nm or (1.0, 1.0, 1.0)
    unit = {} if voxel_size_nm is None else {"unit": "nanometer"}
    axes = [{"name": axis, "type": "space"} | unit for axis in "zyx"]
    datasets = []
    for level, factor in zip(levels, factors, strict=True):
        scale = [s * f for s, f in zip(size, factor, strict=True)]
        # NGFF places a voxel by its centre; the first voxel of each level starts at one corner.
        shift = [o + s * (f - 1) / 2 for o, s, f in zip(offset_nm, size, factor, strict=True)]
        transforms: list[Json] = [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": shift},
        ]
        datasets.append({"path": level, "coordinateTransformations": transforms})
    return {
        "ome": {
            "version": "0.5",
            "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
        }
    }


def _steps(node: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    key = "coordinateTransformations"
    return _mappings(node.get(key) or [], key)


def _mappings(found: Any, key: str) -> list[Mapping[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise ValueError(f"its {key} are {found!r}; accepted is a list of objects")
    return found


def _three(found: Any, what: str) -> Sequence[float]:
    """The last three of some numbers."""
    last = found[-3:] if isinstance(found, list) else []
    if len(last) != 3 or not all(type(n) in (int, float) and abs(n) < math.inf for n in last):
        raise ValueError(f"its {what} is {found!r}; accepted are three numbers, z, y, x")
    return [float(n) for n in last]


def _geometry(
    size: Sequence[float], offset: Sequence[float], units: Sequence[Any]
) -> Geometry | None:
    if not any(units) and all(s == 1 for s in size):
        return None
    z, y, x = (_nm(s, u) for s, u in zip(size, units, strict=True))
    oz, oy, ox = (_nm(s, u) for s, u in zip(offset, units, strict=True))
    if not all(abs(n) <= FARTHEST for n in (z, y, x, oz, oy, ox)):  # NaN is not, either
        raise ValueError(
            f"its voxels measure {(z, y, x)} nm and begin at {(oz, oy, ox)} nm; accepted are "
            f"lengths up to {FARTHEST:g} nm"
        )
    return Geometry((z, y, x), (oz, oy, ox))


def _nm(value: float, unit: Any) -> float:
    unit = unit or "nm"
    name = _SHORT.get(unit, unit).lower().replace("metre", "meter") if type(unit) is str else ""
    if name not in _PER_UNIT:
        raise ValueError(f"its unit is {unit}; accepted are {', '.join(_PER_UNIT)}")
    factor = _PER_UNIT[name]
    # Dividing by a whole number rounds once: 33300 pm is 33.3 nm, not 33.300000000000004.
    return value * factor if factor >= 1 else value / round(1 / factor)
