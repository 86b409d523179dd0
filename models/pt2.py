"""Archives that `torch.export.save` wrote (``.pt2``), read without running code from them.

PyTorch's own reader unpickles parts of such an archive, evaluates expressions in it, and may load
compiled libraries from it. This one reads the graph, which is JSON, and tensors, which are bytes,
and opens nothing else; `cadseg.models.program` runs the graph.

Read is what PyTorch 2.13 writes, with schema 8; archives with pickled tensors, as earlier versions
write them, are refused.
"""

from __future__ import annotations

import json
import re
import zipfile
from typing import TYPE_CHECKING

import torch

from cadseg.errors import WeightsError
from cadseg.models.program import DTYPES, STRIDED, Json, Program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

SCHEMA = 8
"""Of the graph: the major version that is understood."""

NO_LIMIT = 2**62
"""Of a length."""

NAME = "model"
"""What `torch.export.save` calls the program in an archive."""

SYMBOL = r"Symbol\('(\w+)'[\w, =]*\)"
MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError)
"""What reading and running a graph raises that is not as expected."""

LENGTH = re.compile(rf"(?:Mul\(Integer\((\d+)\), )?{SYMBOL}\)?")
Span = tuple[int, int]
Lengths = tuple[Span | None, ...]
"""The least and the most per axis; None: any."""


def load(path: Path) -> tuple[Program, Lengths]:
    """The program in `path`, and what the axes of its input may measure.

    Raises:
        WeightsError: no such archive, or one that cannot be run safely.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(_Members(archive))
    except (OSError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} cannot be read as an exported network: {error}") from None
    except MALFORMED as error:
        text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise WeightsError(
            f"{path} cannot be run: {text}; accepted are networks of one float32 tensor in and one "
            "out that torch.export.save wrote"
        ) from None


class _Members:
    """The files of an archive, which lie in one folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        """Look only at names."""
        names = archive.namelist()
        if not names:
            raise ValueError("the archive is empty")
        self._archive = archive
        self._root = names[0].partition("/")[0]

    def read(self, name: str) -> bytes:
        """The content of one file."""
        return self._archive.read(f"{self._root}/{name}")

    def json(self, name: str) -> Json:
        """The same as data."""
        found = json.loads(self.read(name))
        if not isinstance(found, dict):
            raise ValueError(f"{name} is no object")
        return found


def _read(members: _Members) -> tuple[Program, Lengths]:
    tree = members.json(f"models/{NAME}.json")
    version = tree["schema_version"]["major"]
    if version != SCHEMA:
        raise ValueError(f"it was written with schema {version}, not {SCHEMA}")
    tensors: dict[str, Tensor] = {}
    for folder in ("weights", "constants"):
        config = members.json(f"data/{folder}/{NAME}_{folder}_config.json")["config"]
        for name, entry in config.items():
            if entry["use_pickle"] or entry["tensor_meta"] is None:
                raise ValueError(f"{name} is pickled, and would run code while it is read")
            data = members.read(f"data/{folder}/{entry['path_name']}")
            tensors[name] = _tensor(data, entry["tensor_meta"])
    found = tree["graph_module"]
    program = Program(found["graph"], found["signature"], tensors).eval()
    if DTYPES.get(program.input["dtype"]) != torch.float32:
        raise ValueError("its input is not float32")
    ranges = tree["range_constraints"]
    return program, tuple(_length(size, ranges) for size in program.input["sizes"])


def _tensor(data: bytes, meta: Json) -> Tensor:
    """A tensor from its bytes."""
    sizes, strides = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
    if meta["layout"] != STRIDED:
        raise ValueError("it has tensors that are not dense")
    flat = (
        torch.frombuffer(bytearray(data), dtype=DTYPES[meta["dtype"]]) if data else torch.empty(0)
    )
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).clone()


def _length(size: Json, ranges: Mapping[str, Json]) -> Span | None:
    """What an axis of the input may measure: one number, or a range where the graph names one."""
    if "as_int" in size:
        return size["as_int"], size["as_int"]
    found = LENGTH.fullmatch(size["as_expr"]["expr_str"])
    if found is None or found[2] not in ranges:
        return None
    factor, bounds = int(found[1] or 1), ranges[found[2]]
    least, most = bounds["min_val"] or 0, bounds["max_val"]
    return factor * least, factor * most if most is not None else NO_LIMIT
