"""A run in a folder: on a disk, or on a network file system with POSIX renames and hard links.

The folder is held open from the first look that finds it, and every name is looked up below what is
held: where it is removed, unmounted or replaced, nothing is written to what has its path now.

An object is written to a temporary file beside its place, ``.NAME.HEX.part``, and renamed. What
must outlive a power cut is forced to the disk in this order: the bytes, then the name (the folder
that holds it), then the names of the folders that were made for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from cadseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cadseg.storage.files import Batch, Data, Span

TEMPORARY = re.compile(r"\..*\.[0-9a-f]{32}\.part")
FLAGS = os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | FLAGS


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
        with _as_objects():
            file = os.open(name, os.O_RDONLY | FLAGS, dir_fd=self._root())
            with open(file, "rb", buffering=0) as source:
                return source.readall()

    def read_ranges(self, name: str, spans: Iterable[Span]) -> Iterator[bytes]:
        """Parts of an object; one that begins before the object begins with it."""
        with _as_objects():
            file = os.open(name, os.O_RDONLY | FLAGS, dir_fd=self._root())
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

    def write(self, name: str, data: Data) -> None:
        """Put an object in its place by renaming a temporary file."""
        with self.batch() as batch:
            batch.write(name, data)

    @contextlib.contextmanager
    def batch(self) -> Iterator[Batch]:
        """Write objects that are put in their places together, by renaming temporary files."""
        writing = _Writing(self._root(make=True))
        try:
            yield writing
            writing.place()
        finally:
            writing.clear()

    def create(self, name: str, data: Data) -> bool:
        """Put an object in its place, by a hard link, unless one is there."""
        root = self._root(make=True)
        writing = _Writing(root)
        try:
            writing.write(name, data)
            (temporary,) = writing.temporary
            with contextlib.suppress(FileExistsError):
                os.link(temporary, name, src_dir_fd=root, dst_dir_fd=root)
                _sync_folder(root, os.path.dirname(name))
                return True
        finally:
            writing.clear()
        return False

    def renew(self, name: str, data: Data) -> None:
        """Write over the bytes of an object."""
        file = os.open(name, os.O_WRONLY | FLAGS, dir_fd=self._root())
        try:  # nobody sees it empty, at any time
            _write_all(file, data)
            os.ftruncate(file, len(data))
        finally:
            os.close(file)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        with contextlib.suppress(FileNotFoundError):
            _remove(self._root(), name)

    # the folder itself -----------------------------------------------------------------------

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
        root = self._root(make=True)
        _make(root, os.path.dirname(name))
        return Path(self._path, name)

    def _root(self, *, make: bool = False) -> int:
        """The folder, held open."""
        if self._held is None:
            if make:
                _make_root(self._path)
            self._held = os.open(self._path, FOLDER)
            weakref.finalize(self, os.close, self._held)
        return self._held

    @contextlib.contextmanager
    def _scan(self, folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        try:
            opened = os.open(folder or ".", FOLDER, dir_fd=self._root())
        except (FileNotFoundError, NotADirectoryError):
            yield iter(())
            return
        try:
            with os.scandir(opened) as entries:
                yield (entry for entry in entries if not TEMPORARY.fullmatch(entry.name))
        finally:
            os.close(opened)


class _Writing:
    """Temporary files of one batch: what they will be called, and what will be removed."""

    def __init__(self, root: int) -> None:
        self.temporary: dict[str, str] = {}
        self._root = root
        self._removed: list[str] = []

    def write(self, name: str, data: Data) -> None:
        """Put an object in its place at the end of the batch."""
        with self.writing(name) as sink:
            sink.write(data)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[_Sink]:
        """Put an object, written piece by piece, in its place at the end of the batch."""
        folder, base = os.path.split(name)
        temporary = os.path.join(folder, f".{base}.{uuid.uuid4().hex}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS
        try:
            file = os.open(temporary, flags, 0o666, dir_fd=self._root)
        except FileNotFoundError:  # the folder: made where it is missed, not looked for each time
            _make(self._root, folder)
            file = os.open(temporary, flags, 0o666, dir_fd=self._root)
        self.temporary[temporary] = name
        try:
            yield _Sink(file)
            os.fsync(file)
        finally:
            os.close(file)

    def remove(self, name: str) -> None:
        """Remove an object, or a folder with all that is in it, at the end of the batch."""
        self._removed.append(name)

    def place(self) -> None:
        """Put everything in its place."""
        folders = {os.path.dirname(name) for name in self.temporary.values()}
        for temporary in list(self.temporary):
            name = self.temporary[temporary]
            os.replace(temporary, name, src_dir_fd=self._root, dst_dir_fd=self._root)
            del self.temporary[temporary]
        for name in self._removed:
            with contextlib.suppress(FileNotFoundError):
                _remove(self._root, name)
                folders.add(os.path.dirname(name))
        for folder in folders:
            _sync_folder(self._root, folder)

    def clear(self) -> None:
        """Remove the temporary files that are left."""
        for temporary in self.temporary:
            with contextlib.suppress(OSError):  # whatever stopped the batch is said, not this
                os.unlink(temporary, dir_fd=self._root)


class _Sink:
    """A file that is written from its begin to its end."""

    def __init__(self, file: int) -> None:
        self._file = file

    def write(self, data: Data) -> None:
        """Append bytes."""
        _write_all(self._file, data)


def write_whole(path: str | Path, data: Data) -> None:
    """Put a file at `path`, whose folder is there, whole and durable."""
    folder, name = os.path.split(path)
    os.stat(folder or ".")
    LocalFiles(folder).write(name, data)


@contextlib.contextmanager
def _as_objects() -> Iterator[None]:
    """A folder is no object, and nothing lies in an object."""
    try:
        yield
    except (IsADirectoryError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, error.filename) from None


def _write_all(file: int, data: Data) -> None:
    view = memoryview(data).cast("B")
    while len(view):  # the system may take a part
        view = view[os.write(file, view) :]


def _remove(root: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=root)
    else:
        os.unlink(name, dir_fd=root)


def _make_root(path: str) -> None:
    if not os.path.isdir(path):
        above = os.path.dirname(path)
        _make_root(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        _sync_folder(None, above)


def _make(root: int, folder: str) -> None:
    """Make a folder and those above it; their names are on the disk afterwards."""
    if not folder:
        return
    with contextlib.suppress(FileExistsError):
        try:
            os.mkdir(folder, dir_fd=root)
        except FileNotFoundError:
            _make(root, os.path.dirname(folder))
            os.mkdir(folder, dir_fd=root)
    _sync_folder(root, os.path.dirname(folder))


def _sync_folder(root: int | None, folder: str) -> None:
    """Force the names in a folder to the disk."""
    opened = os.open(folder or ".", FOLDER, dir_fd=root)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing
            raise
    finally:
        os.close(opened)
