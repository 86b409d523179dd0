"""Networks of anyone's own: exported with `torch.export`, with a description beside the file.

``my.pt2`` is what `torch.export.save` wrote, and ``my.yaml`` a `Description`. A network of 3
dimensions takes float32 [1, 1, D, Y, X], one of 2 takes [B, S, Y, X]: B sections, each with the S
sections that it sees for channels, lowest first. Outputs are [1, C, D, Y, X] and [B, C, Y, X].
Nothing of the file is unpickled, and no code from it is run (`cadseg.models.pt2`).

Axis letters: B and D sections, S those seen at once, C channels, Y X pixels; 3 stands for z, y, x.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from cadseg import config as configs
from cadseg import documents
from cadseg.config import Positive, Strict
from cadseg.errors import WeightsError
from cadseg.models import pt2
from cadseg.models.network import Needs, Network

if TYPE_CHECKING:
    from pathlib import Path

    from cadseg.models.program import Program

SUFFIX = ".pt2"

WORKSPACE = 2
"""Memory of operators at work, as a multiple of that of the values that they compute.

With it the exported student is estimated at 832 bytes per voxel; 684 were measured at 768².
"""

UNITS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
"""Offsets to the lower neighbours along z, y, x."""

CONVERTED = 64
"""Bytes per voxel for grey values and affinities as floats."""

Span = tuple[int, int]
Windows = tuple[Span | None, Span | None, Span | None]
Voxels = Annotated[int, Field(ge=0)]
Sides = tuple[Voxels, Voxels]
Value = Annotated[float, Field(allow_inf_nan=False)]


class Description(Strict):
    """What a run must know of an exported network; docs/networks.md explains each key.

    Attributes:
        dimensions: 2 for sections as channels, 3 for volumes.
        context: voxels below and above, z y x, on which an affinity depends; None for an axis of
            the section if it is the whole window.
        multiple: of what the lengths of its input must be multiples, z y x.
        grey: values of the input for grey 0 and 255.
        offsets: of each output channel, from a voxel to the one that it is joined to.
        affinity: values of the output for affinities 0 and 1.
    """

    dimensions: Literal[2, 3]
    context: tuple[Sides, Sides | None, Sides | None]
    multiple: tuple[Positive, Positive, Positive]
    grey: tuple[Value, Value]
    offsets: Annotated[tuple[tuple[int, int, int], ...], Field(min_length=3)]
    affinity: tuple[Value, Value]

    @model_validator(mode="after")
    def _fits(self) -> Description:
        for axis, unit in zip("zyx", UNITS, strict=True):
            if self.offsets.count(unit) != 1:
                raise ValueError(
                    f"offsets name {self.offsets.count(unit)} channels of the lower neighbour "
                    f"along {axis}, {list(unit)}; accepted is one"
                )
        if self.dimensions == 2 and self.multiple[0] != 1:
            raise ValueError(f"multiple is {self.multiple[0]} along z; with dimensions 2 it is 1")
        for key, (low, high) in (("grey", self.grey), ("affinity", self.affinity)):
            if low == high:
                raise ValueError(f"{key} is {low}, {high}; accepted are two different values")
        return self


class Exported(Network):
    """A program and its description."""

    kind = "exported"
    layout = torch.contiguous_format
    config: Description

    def __init__(self, config: Description, program: Program, lengths: pt2.Lengths) -> None:
        """Try the program on no voxels, to know what it takes.

        Raises:
            ValueError: it is not as described.
        """
        super().__init__()
        self.config, self._program = config, program
        self._alone = lengths[0] == (1, 1)
        self._lengths = _windows(config, lengths)
        self.register_buffer("_grey", torch.tensor(config.grey))
        self._bytes_per_voxel = self._tried()

    @property
    def needs(self) -> Needs:
        """As described; windows of an axis whose length is fixed never end at the volume's ends."""
        z, y, x = (n is not None and n[0] == n[1] for n in self._lengths)
        return Needs(
            context=self.config.context,
            multiple=self.config.multiple,
            lengths=self._lengths,
            mirrored=(z or self.config.dimensions == 2, y, x),
            bytes_per_voxel=self._bytes_per_voxel,
        )

    def affinities(self, raw_DYX: Tensor) -> Tensor:
        """Affinities [3, D, Y, X] by the channels that the description names."""
        low, high = self.config.grey
        x_DYX = raw_DYX * (high - low) + low
        out_CDYX = self._volume(x_DYX) if self.config.dimensions == 3 else self._sections(x_DYX)
        zero, one = self.config.affinity
        channels = [self.config.offsets.index(unit) for unit in UNITS]
        affs_3DYX = (out_CDYX[channels].float() - zero) / (one - zero)
        if affs_3DYX.isnan().any():
            raise WeightsError("the exported network gives values that are not numbers")
        return affs_3DYX.clamp(0, 1)

    def _volume(self, x_DYX: Tensor) -> Tensor:
        """The output [C, D, Y, X], without the context where sections are mirrored."""
        out_CDYX: Tensor = self._program(x_DYX[None, None])[0]
        below, above = self.needs.sections if self.needs.mirrored[0] else (0, 0)
        return out_CDYX[:, below : out_CDYX.shape[1] - above]

    def _sections(self, x_DYX: Tensor) -> Tensor:
        """The outputs [C, D, Y, X] of all sections that have those that they see."""
        seen = sum(self.config.context[0]) + 1
        x_BSYX = x_DYX.unfold(0, seen, 1).movedim(-1, 1).contiguous()
        inputs = x_BSYX.unbind(0) if self._alone else ()
        outputs = [self._program(x_SYX[None]) for x_SYX in inputs] or [self._program(x_BSYX)]
        return torch.cat(outputs).transpose(0, 1)

    def _tried(self) -> int:
        """Bytes per voxel of affinities, by the shapes of all that the program computes."""
        config = self.config
        z, y, x = map(_length, config.context, config.multiple, self._lengths)
        if config.dimensions == 3:
            sections, shape = z, [1, 1, z, y, x]
            expected = [1, len(config.offsets), z, y, x]
        else:
            seen = sum(config.context[0]) + 1
            sections, shape = z - seen + 1, [z - seen + 1, seen, y, x]
            expected = [sections, len(config.offsets), y, x]
        try:
            out, most = self._program.run(torch.empty(shape, device="meta"))
        except pt2.MALFORMED as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"it does not run on an input of {shape}: {reason}") from None
        if list(out.shape) != expected:
            raise ValueError(
                f"for an input of {shape} its output has the shape {list(out.shape)}; "
                f"accepted is {expected}, with a channel per offset"
            )
        return WORKSPACE * most // (sections * y * x) + CONVERTED


def load(path: Path) -> Exported:
    """The network in `path`, described beside it, on the CPU, in evaluation mode.

    Raises:
        WeightsError: it cannot be read, or is not as described.
    """
    _, beside = files(path)
    try:
        tree = documents.parse(beside.read_bytes())
        config = Description.model_validate(configs.tuples(tree))
    except OSError as error:
        raise WeightsError(
            f"{path} needs a description in {beside}, which cannot be read: {error.strerror}"
        ) from None
    except ValidationError as error:  # which is a ValueError
        raise WeightsError(f"{beside}: {configs.sentence(error)}") from None
    except ValueError as error:
        raise WeightsError(f"{beside} is not YAML ({error})") from None
    program, lengths = pt2.load(path)
    try:
        return Exported(config, program, lengths).eval()
    except ValueError as error:
        raise WeightsError(f"{path} is not what {beside.name} describes: {error}") from None


def files(path: Path) -> tuple[Path, Path]:
    """The archive in `path`, and its description."""
    return path, path.with_suffix(".yaml")


def _windows(config: Description, lengths: pt2.Lengths) -> Windows:
    """What windows may measure, z y x, by what the axes of the input may.

    Raises:
        ValueError: axes that are not as described.
    """
    if len(lengths) != config.dimensions + 2:
        raise ValueError(
            f"its input has {len(lengths)} axes; accepted with dimensions {config.dimensions} are "
            f"{config.dimensions + 2}"
        )
    batch, channels, *z, y, x = lengths
    seen = sum(config.context[0]) + 1 if config.dimensions == 2 else 1
    if channels is not None and not channels[0] <= seen <= channels[1]:
        raise ValueError(f"its input has {channels[0]} channels; as described there are {seen}")
    if config.dimensions == 3:
        return z[0], y, x
    if batch is None or batch == (1, 1):
        return None, y, x
    return (batch[0] + seen - 1, batch[1] + seen - 1), y, x


def _length(context: Sides | None, multiple: int, taken: Span | None) -> int:
    """A length of windows that has some context, and that the network takes."""
    wanted = max(sum(context or (0, 0)) + 1, taken[0] if taken else 1)
    found = -(-wanted // multiple) * multiple
    return min(found, taken[1]) if taken else found
