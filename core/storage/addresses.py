"""Arrays of the axes z, y, x at an address: a volume, or a dataset of an HDF5 file.

An address is what `cadseg.storage.volume.open_volume` takes, or ``file.h5:dataset``.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import h5py
import numpy as np

from cadseg.errors import VolumeError
from cadseg.storage.damage import reason
from cadseg.storage.volume import open_volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cadseg.arrays import Array
    from cadseg.blocks import Roi

H5_ADDRESS = re.compile(r"(?P<file>.+\.(?:h5|hdf5|hdf))(?::(?P<dataset>.+))?")


class Voxels(Protocol):
    """What can be read box by box."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of what `read` returns."""

    def read(self, roi: Roi) -> Array:
        """Voxels of `roi`."""


@contextlib.contextmanager
def open_array(address: str, what: str) -> Iterator[Voxels]:
    """The array at an address.

    Args:
        address: see the module's docstring.
        what: noun for errors, as in ``labels``.

    Raises:
        VolumeError: nothing there, or an array of other axes.
    """
    with contextlib.ExitStack() as stack:
        match = H5_ADDRESS.fullmatch(address)
        voxels: Voxels
        if match:
            dataset = stack.enter_context(_dataset(match["file"], match["dataset"], what))
            voxels = _Dataset(address, dataset)
        else:
            voxels = open_volume(address)
        if len(voxels.shape) != 3:
            raise VolumeError(
                f"{what} {address}: has the shape {voxels.shape}; accepted are the axes z, y, x"
            )
        yield voxels


@dataclass(frozen=True)
class _Dataset:
    """A dataset of an HDF5 file, read like a volume."""

    address: str
    dataset: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.dataset.shape or ())  # an empty dataset has None

    @property
    def dtype(self) -> np.dtype[Any]:
        kind: np.dtype[Any] = self.dataset.dtype
        return kind

    def read(self, roi: Roi) -> Array:
        try:
            return np.asarray(self.dataset[roi.slices()])
        except Exception as error:  # a broken file leads to any
            why = reason(error)
            raise VolumeError(f"volume {self.address}: cannot read {roi} ({why})") from None


@contextlib.contextmanager
def _dataset(file: str, name: str | None, what: str) -> Iterator[Any]:
    try:
        opened = h5py.File(file, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise VolumeError(f"{what} {file}: cannot be opened as HDF5 ({error})") from None
    with opened:
        yield _member(opened, name, f"{what} {file}")


def _member(file: h5py.File, name: str | None, where: str) -> Any:
    """The dataset of that name."""
    try:
        there, found = ", ".join(file) or "none", None if name is None else file.get(name)
    except Exception as error:  # a broken file leads to any
        raise VolumeError(f"{where}: cannot be read ({reason(error)})") from None
    if name is None:
        raise VolumeError(f"{where}: names no dataset; accepted is FILE:DATASET; there are {there}")
    if not isinstance(found, h5py.Dataset):
        raise VolumeError(f"{where}: has no dataset {name}; there are {there}")
    return found
