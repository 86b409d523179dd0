"""The bytes of a run: the one door to the folder, or the address, where it lies.

A run is made of *objects*: bytes under a name, which is a relative path with "/" between folders,
as in ``records/climb/0.0.0.json``. An object is written whole or not at all: whoever reads sees the
old bytes or the new ones, also when the writer is killed. A folder is there as long as anything is
in it, and is made by writing into it.

Every store keeps the laws of `Files`. Another one is a file with such a class and a row in
`STORES`; tests/test_files.py tests every row.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cadseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


Data = bytes | memoryview
Span = tuple[int, int]

SCHEME = re.compile(r"([A-Za-z][\w+.-]+):/")
"""How an address begins; as a `Path`, "//" is "/" there."""


class Files(Protocol):
    """What a store of objects can do. A name without an object raises `FileNotFoundError`."""

    @property
    def url(self) -> str:
        """Where the run lies, as the user named it; with "/" and a name, where an object lies."""

    def read(self, name: str) -> bytes:
        """All bytes of an object."""

    def read_ranges(self, name: str, spans: Iterable[Span]) -> Iterator[bytes]:
        """Parts of an object, one after the other, each when it is asked for.

        Args:
            name: of the object.
            spans: begin and length of each part; a negative begin counts from the end. A part ends
                where the object does.
        """

    def size(self, name: str) -> int:
        """Number of bytes of an object."""

    def age(self, name: str) -> float:
        """Seconds since an object was written or renewed, by the clock of the store."""

    def write(self, name: str, data: Data) -> None:
        """Put an object in its place, whole; it replaces the one that is there."""

    def create(self, name: str, data: Data) -> bool:
        """Put an object in its place unless one is there; of many who try at once, one does."""

    def renew(self, name: str) -> None:
        """Make an object as old as one that is written now; its bytes stay."""

    def list(self, folder: str) -> Sequence[str]:
        """Names of the objects and folders directly in `folder`; none where there is no folder."""

    def remove(self, name: str) -> None:
        """Remove an object, or a folder with all that is in it, if it is there."""

    def room(self) -> float:
        """Bytes that may still be written.

        Raises:
            OutputError: nothing can be written here.
        """

    def local(self, name: str) -> Path:
        """A path on a disk of this machine, for what must be a file: logs, scratch, tracking.

        The folder above it is made; what is written there need not be seen by other machines.
        """


class LocalFiles:
    """A folder on a disk, or on a network file system with POSIX renames and hard links."""

    def __init__(self, folder: str | Path) -> None:
        """The store in `folder`, which is made by the first write."""
        self.url = str(folder)
        self._root = os.path.abspath(folder)

    def read(self, name: str) -> bytes:
        """All bytes of an object."""
        with _as_objects(), open(self._path(name), "rb", buffering=0) as file:
            return file.readall()

    def read_ranges(self, name: str, spans: Iterable[Span]) -> Iterator[bytes]:
        """Parts of an object; one that begins before the object begins with it."""
        with _as_objects():
            file = os.open(self._path(name), os.O_RDONLY)
        try:
            for begin, length in spans:
                if begin < 0:
                    begin = max(0, os.fstat(file).st_size + begin)
                yield os.pread(file, length, begin)
        finally:
            os.close(file)

    def size(self, name: str) -> int:
        """Number of bytes of an object."""
        return os.stat(self._path(name)).st_size

    def age(self, name: str) -> float:
        """Seconds since an object was written or renewed."""
        written = os.stat(self._path(name)).st_mtime
        with tempfile.TemporaryFile(dir=self._root) as now:  # its time is the file system's
            return os.fstat(now.fileno()).st_mtime - written

    def write(self, name: str, data: Data) -> None:
        """Put an object in its place by renaming a temporary file."""
        path = self._path(name)
        try:
            write_whole(path, data)
        except FileNotFoundError:  # the folder: made where it is missed, not looked for each time
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_whole(path, data)

    def create(self, name: str, data: Data) -> bool:
        """Put an object in its place, by a hard link, unless one is there."""
        path = self._path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with _beside(path, data) as temporary, contextlib.suppress(FileExistsError):
            os.link(temporary, path)
            return True
        return False

    def renew(self, name: str) -> None:
        """Set an object's time to now."""
        os.utime(self._path(name))

    def list(self, folder: str) -> Sequence[str]:
        """Names directly in `folder`; what a writer that was killed has left is none."""
        try:
            names = os.listdir(self._path(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in names if not (name[0] == "." and name.endswith(".part"))]

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def room(self) -> float:
        """Bytes that are free on the disk."""
        root = Path(self._root)
        there = next(path for path in (root, *root.parents) if path.exists())
        if not there.is_dir():
            found = f"{there} is no folder"
        elif not os.access(there, os.W_OK) or os.statvfs(there).f_flag & os.ST_RDONLY:
            found = f"{there} is not writable"
        else:
            return shutil.disk_usage(there).free
        raise OutputError(f"output {self.url}: {found}; choose another with --out")

    def local(self, name: str) -> Path:
        """The file itself: a folder is on a disk of this machine."""
        path = Path(self._path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


STORES: dict[str, Callable[[str], Files]] = {"": LocalFiles}
"""By the scheme of an address, what opens it; "" is a folder."""


def open_files(where: str | Path) -> Files:
    """The store at an address, whether or not a run is there yet.

    Raises:
        OutputError: no store for such addresses.
    """
    match = SCHEME.match(str(where))
    scheme = match[1] if match else ""
    if scheme not in STORES:
        accepted = " or ".join(["a folder", *(f"{name}://" for name in STORES if name)])
        raise OutputError(
            f"output {where}: cadseg cannot write to {scheme}:// addresses; accepted is {accepted}"
        )
    return STORES[scheme](str(where))


def resolved(where: str | Path) -> str:
    """An address that means the same in every process: a path from the root, or a URL."""
    return str(where) if "://" in str(where) else str(Path(where).resolve())


def write_whole(path: str | Path, data: Data) -> None:
    """Put a file at `path`, whose folder is there, whole: by renaming a temporary one."""
    with _beside(path, data) as temporary:
        os.replace(temporary, path)


@contextlib.contextmanager
def _as_objects() -> Iterator[None]:
    """A folder is no object, and nothing lies in an object."""
    try:
        yield
    except (IsADirectoryError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, error.filename) from None


@contextlib.contextmanager
def _beside(path: str | Path, data: Data) -> Iterator[str]:
    """A temporary file with `data` in the folder of `path`, of a name that no other writer has."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.part")
    try:
        with open(temporary, "wb", buffering=0) as file:
            _write_all(file.fileno(), data)
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):  # renamed
            os.unlink(temporary)


def _write_all(file: int, data: Data) -> None:
    view = memoryview(data).cast("B")
    while len(view):  # the system may take a part
        view = view[os.write(file, view) :]
