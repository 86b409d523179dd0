"""The bytes of a run: the one door to the folder, or the address, where it lies.

A run is made of *objects*: bytes under a name, which is a relative path with "/" between folders,
as in ``records/climb/0.0.0.json``. An object is written whole or not at all: whoever reads sees the
old bytes or the new ones, also when the writer is killed. A folder is there as long as anything is
in it, and is made by writing into it.

What is *durable* outlives a power cut. An object is durable when the call has returned, or the
context has ended, that put it in its place, unless it was told otherwise. What was removed may be
there again after a power cut.

Every store keeps the laws of `Files`. Another one is a file with such a class and a row in
`STORES`; tests/test_files.py tests every row.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cadseg.errors import OutputError
from cadseg.storage.local_files import LocalFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager


Data = bytes | memoryview
Span = tuple[int, int]

SCHEME = re.compile(r"([A-Za-z][\w+.-]+):/")
"""How an address begins; as a `Path`, "//" is "/" there."""


class Sink(Protocol):
    """An object that is being written, from its begin to its end."""

    def write(self, data: Data) -> None:
        """Append bytes."""


class Batch(Protocol):
    """What is put in place, and removed, at the end of a context of `Files.batch`."""

    def write(self, name: str, data: Data) -> None:
        """Put an object in its place."""

    def writing(self, name: str) -> AbstractContextManager[Sink]:
        """Put an object in its place that is written piece by piece, within the context."""

    def remove(self, name: str) -> None:
        """Remove an object, or a folder with all that is in it, if it is there."""


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

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Names and numbers of bytes of the objects directly in `folder`, by one look at it."""

    def write(self, name: str, data: Data, *, durable: bool = True) -> None:
        """Put an object in its place, whole; it replaces the one that is there."""

    def batch(self) -> AbstractContextManager[Batch]:
        """Write objects that are put in their places when the context ends, and removed then.

        Where it ends with an error, nothing is put or removed. Where the writer is killed, some
        objects may be in their places, each whole.
        """

    def create(self, name: str, data: Data) -> bool:
        """Put an object in its place unless one is there; of many who try at once, one does."""

    def renew(self, name: str, data: Data) -> None:
        """Replace the bytes of an object that is there; they need not be durable.

        Who reads meanwhile may see a mixture of the old bytes and the new ones.
        """

    def list(self, folder: str) -> Sequence[str]:
        """Names of the objects and folders directly in `folder`; none where there is no folder."""

    def remove(self, name: str) -> None:
        """Remove an object, or a folder with all that is in it, if it is there."""

    def tidy(self) -> None:
        """Remove what writers that were killed have left. Nobody may write meanwhile."""

    def check(self) -> None:
        """Write something, and see that it arrives where the run lies.

        Raises:
            OSError: it does not; its `strerror` says why. A network disk may never answer.
        """

    def room(self) -> float:
        """Bytes that may still be written.

        Raises:
            OutputError: nothing can be written here.
        """

    def local(self, name: str) -> Path:
        """A path on a disk of this machine, for what must be a file: logs and scratch.

        The folder above it is made; what is written there need not be seen by other machines.
        """


STORES: dict[str, Callable[[str], Files]] = {"": LocalFiles}
"""By the scheme of an address, what opens it; "" is a folder."""


def open_files(where: str | Path) -> Files:
    """The store at an address, whether or not a run is there yet.

    Raises:
        OutputError: no store for such addresses, or a name that is not UTF-8.
    """
    match = SCHEME.match(str(where))
    scheme = match[1] if match else ""
    if not _is_text(str(where)):
        raise OutputError(f"output {where}: accepted are names in UTF-8")
    if scheme not in STORES:
        accepted = " or ".join(["a folder", *(f"{name}://" for name in STORES if name)])
        raise OutputError(
            f"output {where}: cadseg cannot write to {scheme}:// addresses; accepted is {accepted}"
        )
    return STORES[scheme](str(where))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8, as Python keeps them
        return False
    return True


def resolved(where: str | Path) -> str:
    """An address that means the same in every process: a path from the root, or a URL."""
    return str(where) if "://" in str(where) else str(Path(where).resolve())
