"""A run in a folder: on a disk, or on a network file system with POSIX renames and hard links.

The folder is held open from the first look that finds it, and every name is looked up below what is
held: where it is removed, unmounted or replaced, nothing is written to what has its path now.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from cadseg.errors import OutputError
from cadseg.storage.local_batch import (
    FOLDER,
    LocalBatch,
    make_folder,
    remove,
    sync,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cadseg.storage.files import Batch, Data, Span

GONE = "the folder has gone, or another one is in its place; was its disk unmounted?"
FULL = "the disk can hold no more files: no inodes are left"
BYTES, FILES = 1 << 16, 64
"""What a disk must have room for, to be one that is not full."""


class LocalFiles:
    """The objects in a folder."""

    def __init__(self, folder: str | Path) -> None:
        """The store in `folder`, which is made by the first write."""
        self.url = str(folder)
        self._path = os.path.abspath(folder)
        self._held: int | None = None

    # reading ---------------------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        """All bytes of an object."""
        with _as_objects(), open(self._open(name, os.O_RDONLY), "rb", buffering=0) as file:
            return file.readall()

    def read_ranges(self, name: str, spans: Iterable[Span]) -> Iterator[bytes]:
        """Parts of an object; one that begins before the object begins with it."""
        with _as_objects():
            file = self._open(name, os.O_RDONLY)
        try:
            for begin, length in spans:
                if begin < 0:
                    begin = max(0, os.fstat(file).st_size + begin)
                yield os.pread(file, length, begin)
        finally:
            os.close(file)

    def size(self, name: str) -> int:
        """Number of bytes of an object."""
        return os.stat(name, dir_fd=self._root()).st_size

    def list(self, folder: str) -> Sequence[str]:
        """Names directly in `folder`; what a writer that was killed has left is none."""
        with self._scan(folder) as entries:
            return [entry.name for entry in entries]

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Names and lengths of the objects directly in `folder`."""
        with self._scan(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}

    # writing ---------------------------------------------------------------------------------

    def write(self, name: str, data: Data, *, durable: bool = True) -> None:
        """Put an object in its place by renaming a temporary file."""
        with LocalBatch(self._root(make=True), durable=durable) as batch:
            batch.write(name, data)

    @contextlib.contextmanager
    def batch(self) -> Iterator[Batch]:
        """Write objects that are put in their places together, by renaming temporary files."""
        with LocalBatch(self._root(make=True)) as batch:
            yield batch

    def create(self, name: str, data: Data) -> bool:
        """Put an object in its place, by a hard link, unless one is there."""
        root, temporary = self._root(make=True), f".{uuid.uuid4().hex}.part"
        try:
            self.write(temporary, data)
            make_folder(root, os.path.dirname(name))
            os.link(temporary, name, src_dir_fd=root, dst_dir_fd=root)
            sync(root, os.path.dirname(name))
        except FileExistsError:
            return False
        finally:
            self.remove(temporary)
        return True

    def renew(self, name: str, data: Data) -> None:
        """Write over the bytes of an object."""
        file = self._open(name, os.O_WRONLY)
        try:  # nobody sees it empty, at any time
            write_all(file, data)
            os.ftruncate(file, len(data))
        finally:
            os.close(file)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        with contextlib.suppress(FileNotFoundError):
            remove(self._root(), name)

    # the folder itself -----------------------------------------------------------------------

    def tidy(self) -> None:
        """Remove temporary files, wherever they are."""
        for _, _, names, opened in os.fwalk(".", dir_fd=self._root()):
            for name in filter(_is_temporary, names):
                remove(opened, name)

    def check(self) -> None:
        """Write a file and remove it, in the folder that is held if it still has its path."""
        self._same()
        disk = os.statvfs(self._root())
        if disk.f_files and disk.f_favail < FILES:  # one that does not count them says 0
            raise OSError(errno.ENOSPC, FULL)
        try:
            self.write(".check.part", bytes(BYTES))
        except OSError as error:
            raise OSError(error.errno, error.strerror) from None
        finally:
            with contextlib.suppress(OSError):  # a disk that cannot be written
                self.remove(".check.part")

    def room(self) -> float:
        """Bytes that are free on the disk."""
        root = Path(self._path)
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
        make_folder(self._root(make=True), os.path.dirname(name))
        self._same()
        return Path(self._path, name)

    def _same(self) -> None:
        """Raise an error unless what is held has still the path that it had."""
        held = os.fstat(self._root())
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(held, os.stat(self._path)):
                return
        raise OSError(errno.ESTALE, GONE)

    def _root(self, *, make: bool = False) -> int:
        """The folder, held open."""
        if self._held is None:
            if make and not os.path.isdir(self._path):
                make_folder(None, self._path)
            self._held = os.open(self._path, FOLDER)
            weakref.finalize(self, os.close, self._held)
        return self._held

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags, dir_fd=self._root())

    @contextlib.contextmanager
    def _scan(self, folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        try:
            opened = self._open(folder or ".", FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            yield iter(())
            return
        try:
            with os.scandir(opened) as entries:
                yield (entry for entry in entries if not _is_temporary(entry.name))
        finally:
            os.close(opened)


def write_whole(path: str | Path, data: Data) -> None:
    """Put a file at `path`, whose folder is there, whole and durable."""
    folder, name = os.path.split(path)
    os.stat(folder or ".")
    LocalFiles(folder).write(name, data)


def _is_temporary(name: str) -> bool:
    return name[0] == "." and name.endswith(".part")


@contextlib.contextmanager
def _as_objects() -> Iterator[None]:
    """A folder is no object, and nothing lies in an object."""
    try:
        yield
    except (IsADirectoryError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, error.filename) from None
