"""A network as a graph of PyTorch's operators, as `torch.export` writes it, called one by one.

The operators are PyTorch's own (``aten``), which compute with tensors and numbers, and arithmetic
with lengths. Operators that take text, such as the name of a file, are refused but for a few, and
so is what draws random numbers or learns. What is not understood is refused.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Json = dict[str, Any]

POSITIONAL = 1
"""Kind of an argument; others are given by name."""

TEXT = ("_assert_scalar", "div", "gelu", "pad")
"""Operators that may take text: a mode by its name, or what to say."""

DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
STRIDED = 7
"""The one memory layout of tensors that is taken."""

ATEN = re.compile(r"torch\.ops\.aten\.([a-z0-9_]+)\.(\w+)")

ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in [
            *("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow"),
            *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"),
        ]
    },
    "math.trunc": math.trunc,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_int": int,
    "torch.sym_float": float,
    "torch.sym_not": operator.not_,
}
"""What graphs do with lengths."""


@dataclass(frozen=True)
class Call:
    """One operator of a graph: its arguments, as in the JSON, and names of its results."""

    function: Callable[..., Any]
    inputs: tuple[Json, ...]
    outputs: tuple[str | None, ...]
    several: bool  # whether its results come as a tuple
    last: tuple[str, ...]  # values that nobody needs after it


class Program(nn.Module):
    """One tensor in, one tensor out.

    Attributes:
        input: description of the tensor that goes in, as in the JSON.
    """

    def __init__(self, graph: Json, signature: Json, tensors: Mapping[str, Tensor]) -> None:
        """The program of a graph and its signature, with its tensors by name."""
        super().__init__()
        self._names: dict[str, str] = {}
        (self._input,) = self._lifted(signature["input_specs"], tensors)
        (self._output,) = _outputs_of(signature["output_specs"])
        self._calls = _calls(graph["nodes"], keep=self._output)
        self.input: Json = graph["tensor_values"][self._input]

    def forward(self, x: Tensor) -> Tensor:
        """The program's output for an input."""
        out, _ = self.run(x)
        return out

    def run(self, x: Tensor) -> tuple[Tensor, int]:
        """The output, and the most bytes of values that were needed at the same time."""
        fixed = {name: getattr(self, kept).to(x.device) for name, kept in self._names.items()}
        values: dict[str, Any] = {**fixed, self._input: x}
        most = 0
        for call in self._calls:
            args, named = [], {}
            for item in call.inputs:
                value = _value(item["arg"], values, x.device)
                if item["kind"] == POSITIONAL:
                    args.append(value)
                else:
                    named[item["name"]] = value
            found = call.function(*args, **named)
            results = found if call.several else (found,)
            values |= {n: r for n, r in zip(call.outputs, results, strict=True) if n is not None}
            most = max(most, sum(_bytes(v) for name, v in values.items() if name not in fixed))
            for name in call.last:
                values.pop(name, None)
        out = values[self._output]
        assert isinstance(out, Tensor)
        return out, most

    def _lifted(self, specs: list[Json], tensors: Mapping[str, Tensor]) -> Iterator[str]:
        """Keep the program's tensors; names of the inputs that callers give."""
        for spec in specs:
            ((kind, found),) = spec.items()
            if kind == "user_input":
                yield found["arg"]["as_tensor"]["name"]
                continue
            key = {"parameter": "parameter_name", "buffer": "buffer_name"}.get(kind)
            tensor = tensors[found[key or "tensor_constant_name"]]
            kept = f"tensor_{len(self._names)}"
            self.register_buffer(kept, tensor)
            self._names[found["arg"]["name"]] = kept


def _outputs_of(specs: list[Json]) -> Iterator[str]:
    for spec in specs:
        if "user_output" not in spec:
            raise ValueError("it changes its own tensors, as networks in training mode do")
        yield spec["user_output"]["arg"]["as_tensor"]["name"]


def _calls(nodes: list[Json], keep: str) -> list[Call]:
    """The graph's operators in their order, each with the values that can go after it."""
    seen, calls = {keep}, []
    for node in reversed(nodes):
        outputs, several = _results(node["outputs"])
        named = {name for item in node["inputs"] for name in _names(item["arg"])}
        named |= {name for name in outputs if name is not None}
        _check_deterministic(node)
        calls.append(
            Call(
                _function(node["target"]),
                tuple(node["inputs"]),
                outputs,
                several,
                tuple(named - seen),
            )
        )
        seen |= named
    return calls[::-1]


def _function(target: str) -> Callable[..., Any]:
    """The operator of that name, if it can only compute."""
    if target in ARITHMETIC:
        return ARITHMETIC[target]
    found = ATEN.fullmatch(target)
    if found is None or found[1].startswith("__"):
        raise ValueError(f"its operator {target} is none of PyTorch's own")
    function = getattr(getattr(torch.ops.aten, found[1]), found[2])
    if not isinstance(function, torch._ops.OpOverload):
        raise ValueError(f"its operator {target} is none of PyTorch's own")
    takes_text = any("str" in str(argument.type) for argument in function._schema.arguments)
    if takes_text and found[1] not in TEXT:
        raise ValueError(f"its operator {target} takes text, which might be the name of a file")
    return function


def _check_deterministic(node: Json) -> None:
    """Refuse what learns, or draws random numbers."""
    for item in node["inputs"]:
        if item["name"] in ("training", "train") and item["arg"].get("as_bool"):
            raise ValueError(f"its operator {node['target']} is in training mode")
    function = _function(node["target"])
    tags = function.tags if isinstance(function, torch._ops.OpOverload) else ()
    if torch.Tag.nondeterministic_seeded in tags and "dropout" not in node["target"]:
        raise ValueError(f"its operator {node['target']} draws random numbers")


def _results(outputs: list[Json]) -> tuple[tuple[str | None, ...], bool]:
    """Names of an operator's results, and whether they come as a tuple."""
    if len(outputs) == 1 and "as_tensors" in outputs[0]:
        return tuple(item["name"] for item in outputs[0]["as_tensors"]), True
    names = []
    for output in outputs:
        ((_, found),) = output.items()
        names.append(found.get("as_name", found.get("name")) if isinstance(found, dict) else None)
    return tuple(names) or (None,), len(names) > 1


def _names(argument: Any) -> Iterator[str]:
    """Names of all values that an argument holds."""
    if isinstance(argument, dict):
        for key, value in argument.items():
            if key in ("name", "as_name"):
                yield value
            else:
                yield from _names(value)
    elif isinstance(argument, list):
        for item in argument:
            yield from _names(item)


PLAIN = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string")


def _value(argument: Json, known: Mapping[str, Any], device: torch.device) -> Any:
    """What an argument stands for; everything is on `device`."""
    ((kind, found),) = argument.items()
    if kind in PLAIN:
        return found
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool", "as_tensor", "as_optional_tensor"):
        return _one(found, known)
    if kind in ("as_sym_ints", "as_sym_floats", "as_tensors", "as_optional_tensors"):
        return [_one(item, known) for item in found]
    if kind == "as_none":
        return None
    if kind == "as_device":
        return device
    if kind == "as_layout" and found == STRIDED:
        return torch.strided
    if kind == "as_scalar_type":
        return DTYPES[found]
    if kind == "as_memory_format":
        return FORMATS[found]
    raise ValueError(f"its operators take arguments {kind}")


def _one(item: Json, known: Mapping[str, Any]) -> Any:
    """A value by its name, or a number that stands in its place."""
    if "name" in item:
        return known[item["name"]]
    ((kind, found),) = item.items()
    if kind == "as_tensor":
        return known[found["name"]]
    return known[found] if kind == "as_name" else None if kind == "as_none" else found


def _bytes(value: Any) -> int:
    return value.nbytes if isinstance(value, Tensor) else 0
