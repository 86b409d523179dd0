"""What a run accepts as raw, affinities and mask, and the bytes that it makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from toy_arrays import Array, grey, store_array, whole

from cadseg import config
from cadseg.blocks import Roi
from cadseg.errors import ConfigError, VolumeError
from cadseg.storage import inputs, volume

if TYPE_CHECKING:
    from pathlib import Path


def _config(**grey_range: Any) -> config.Config:
    value = grey_range.get("grey_range")
    return config.load("ssem", [] if value is None else [f"volume.grey_range={list(value)}"])


def _opened(path: Path, data: Array) -> volume.Volume:
    store_array(path, data, "v3")
    return volume.open_volume(str(path))


def test_raw_is_bytes_or_has_a_grey_range(tmp_path: Path) -> None:
    """uint8 is taken, uint16 with a range for the whole volume, anything else is refused."""
    one, two = (
        _opened(tmp_path / "1", grey(8, 16, 16)),
        _opened(tmp_path / "2", grey(8, 16, 16, dtype="u2")),
    )
    inputs.check_raw(one, _config())
    inputs.check_raw(two, _config(grey_range=(100, 4000)))
    with pytest.raises(ConfigError, match="accepted are two grey values"):
        inputs.check_raw(two, _config())
    with pytest.raises(ConfigError, match="the lower one first"):
        inputs.check_raw(two, _config(grey_range=(4000, 100)))
    with pytest.raises(ConfigError, match="accepted is null"):
        inputs.check_raw(one, _config(grey_range=(100, 4000)))
    with pytest.raises(VolumeError, match="float32; raw must be uint8 or uint16, so convert"):
        inputs.check_raw(_opened(tmp_path / "f", grey(8, 16, 16, dtype="f4")), _config())
    with pytest.raises(VolumeError, match="raw must be z, y, x"):
        inputs.check_raw(_opened(tmp_path / "c", grey(3, 8, 16, 16)), _config())


def test_affinities_have_three_channels(tmp_path: Path) -> None:
    """Affinities have one channel per axis, as bytes or floats; a mask has the volume's shape."""
    inputs.check_affinities(_opened(tmp_path / "3", grey(3, 8, 16, 16)))
    for channels in (2, 12):
        with pytest.raises(VolumeError, match="one channel per axis"):
            inputs.check_affinities(_opened(tmp_path / f"{channels}", grey(channels, 8, 16, 16)))
    with pytest.raises(VolumeError, match="must be uint8"):
        inputs.check_affinities(_opened(tmp_path / "i", grey(3, 8, 16, 16, dtype="i4")))
    raw = _opened(tmp_path / "raw", grey(8, 16, 16))
    inputs.check_mask(raw, raw)
    with pytest.raises(VolumeError, match="a mask must have the same"):
        inputs.check_mask(_opened(tmp_path / "m", grey(8, 16, 17)), raw)


def test_float_affinities_become_bytes(tmp_path: Path) -> None:
    """Affinities in 0..1 become 0..255; one that is no number or outside is named by its place."""
    data = np.linspace(0, 1, 3 * 8 * 16 * 16, dtype="f4")
    data[:255] = (np.arange(255) + 0.5) / 255  # as near to a half as floats come
    data = data.reshape(3, 8, 16, 16)
    opened = _opened(tmp_path / "a", data)
    assert (inputs.read_affinities(opened, whole(data)) == np.rint(data.astype("f8") * 255)).all()
    for value in (np.nan, 1.5, -0.1):
        bad = data.copy()
        bad[1, 2, 3, 4] = value
        path = tmp_path / str(value)
        with pytest.raises(VolumeError, match=r"at \(1, 2, 3, 4\); affinities must lie in 0..1"):
            inputs.read_affinities(_opened(path, bad), Roi((1, 0, 0), (8, 16, 16)))


def test_grey_values_do_not_depend_on_the_block() -> None:
    """uint16 becomes uint8 by the global range alone: rounded half to even, clipped, in order."""
    values = np.arange(65536, dtype=np.uint16)
    grey8 = inputs.as_uint8(values, (1000, 1510))
    assert grey8[[0, 1000, 1001, 1002, 1003, 1510, 65535]].tolist() == [0, 0, 0, 1, 2, 255, 255]
    assert (np.diff(grey8.astype(int)) >= 0).all()
    assert (inputs.as_uint8(values[300:40000], (1000, 1510)) == grey8[300:40000]).all()
    assert inputs.as_uint8(grey8, None) is grey8
