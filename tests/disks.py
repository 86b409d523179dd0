"""Disks of a test, made and mounted by root: small ones, and one whose power can be cut."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
FREEZE, THAW = 0xC0045877, 0xC0045878  # FIFREEZE, FITHAW
NO_LOG_FLUSH = 2  # what is not yet on the disk never comes there, the journal included


@contextlib.contextmanager
def tmpfs(place: Path, **options: object) -> Iterator[Path]:
    """A disk in memory at `place`, with mount options such as ``size`` and ``nr_inodes``."""
    words = ",".join(f"{name}={value}" for name, value in options.items())
    with _mounted(place, "-t", "tmpfs", "-o", words, "none"):
        yield place


@contextlib.contextmanager
def ext4(image: Path, place: Path) -> Iterator[Path]:
    """The file system in the file `image`, which is made where it is missing, at `place`."""
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    with _mounted(place, "-o", "loop,errors=remount-ro", image):
        yield place


def cut_power(place: Path) -> None:
    """From now on, nothing comes to the disk of the ext4 at `place`."""
    opened = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(opened, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(opened)


def enlarge(place: Path, **options: object) -> None:
    """Give the tmpfs at `place` other options."""
    words = ",".join(f"{name}={value}" for name, value in options.items())
    subprocess.run(["mount", "-o", f"remount,{words}", place], check=True)


def fail(place: Path) -> None:
    """Have the ext4 at `place` find an error, whereupon it turns read-only."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    (device,) = (Path(source).name for source, at, *_ in mounts if at == str(place))
    Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("a test")


def repair(image: Path) -> None:
    """Repair the file system in `image`, which is not mounted."""
    found = subprocess.run(["e2fsck", "-f", "-y", image], capture_output=True, text=True)
    assert found.returncode in (0, 1), found.stdout


@contextlib.contextmanager
def bound(folder: Path, place: Path) -> Iterator[Path]:
    """What is in `folder` at `place`, too; it goes at the end, whoever uses it."""
    with _mounted(place, "--bind", folder, lazily=True):
        yield place


@contextlib.contextmanager
def frozen(place: Path) -> Iterator[None]:
    """The ext4 at `place` lets everybody wait who writes."""
    opened = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(opened, FREEZE, 0)
        yield
    finally:
        fcntl.ioctl(opened, THAW, 0)
        os.close(opened)


@contextlib.contextmanager
def _mounted(place: Path, *words: object, lazily: bool = False) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", *map(str, words), place], capture_output=True, text=True)
    if made.returncode and os.geteuid():
        pytest.xfail(f"only root may mount: {made.stderr}")
    assert made.returncode == 0, made.stderr
    try:
        yield
    finally:
        for _ in range(0 if lazily else 100):  # processes that were killed may not have gone
            if subprocess.run(["umount", place], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", place], check=False)
