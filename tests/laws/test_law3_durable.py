"""Law 3 where the power goes: what a record speaks of is on the disk before the record is.

`test_law3_stopping` cuts the power of a disk. Here it is looked at what a run asks of its disk, in
which order, which needs no disk of our own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import real_run as real

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


class Disk:
    """What a disk knows of a run's files, by the calls that go to the system.

    Attributes:
        bytes: files of which it may not have all bytes.
        names: files and folders of which it may not have the name.
        missing: what it might not have had when a record was put in its place, or its object.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Listen to what happens below `root`."""
        self.bytes: set[str] = set()
        self.names: set[str] = set()
        self.missing: list[str] = []
        self._root = f"{root}/"
        for name in ("write", "fsync", "replace", "link", "mkdir"):
            call = getattr(os, name)
            monkeypatch.setattr(os, name, self._listening(call, getattr(self, f"_{name}")))

    def _listening(self, call: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def heard(*words: Any, **more: Any) -> Any:
            result = call(*words, **more)
            note(*words, **more)
            return result

        return heard

    def _write(self, file: int, data: object) -> None:
        self._note(self.bytes, os.readlink(f"/proc/self/fd/{file}"))

    def _fsync(self, file: int) -> None:
        path = os.readlink(f"/proc/self/fd/{file}")
        self.bytes.discard(path)
        self.names = {name for name in self.names if os.path.dirname(name) != path}

    def _replace(self, source: str, name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        path = _path(name, dst_dir_fd)
        if _path(source, src_dir_fd) in self.bytes:
            self.missing.append(f"bytes of {path}")
        if "/records/" in path:
            self.missing += sorted(self.bytes | self.names - {path})
        self._note(self.names, path)

    def _link(self, source: str, name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._replace(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def _mkdir(self, name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._note(self.names, _path(name, dir_fd))

    def _note(self, which: set[str], path: str) -> None:
        if path.startswith(self._root) and not path.startswith(f"{self._root}logs"):
            which.add(path)


def _path(name: str, folder: int | None) -> str:
    base = os.readlink(f"/proc/self/fd/{folder}") if folder is not None else os.getcwd()
    return os.path.normpath(os.path.join(base, name))


def test_a_record_comes_last(affs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a record is put in its place, all that was put before is on the disk, by name."""
    out = tmp_path / "o.zarr"
    with monkeypatch.context() as listening:
        disk = Disk(out, listening)
        real.segment(affs, out)
    assert real.records(out) > 40
    assert disk.missing == []
    assert disk.names == set()
