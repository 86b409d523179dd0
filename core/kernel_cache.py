"""Where compiled kernels are kept from one process to the next.

numba looks whether the file of a kernel has changed, not those of the kernels that it calls. So
they are kept in a folder that is named by a hash of all files with kernels: whatever changes in
one of them, all are compiled anew, elsewhere.

The folder lies in ``NUMBA_CACHE_DIR`` where that is set, else in the user's cache folder, else,
where that cannot be written, in the one for temporary files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT_DAYS = 28
"""How long a folder is kept that no process has asked for."""


def sources() -> list[Path]:
    """All files of the package that define kernels, and the one that says how."""
    core = Path(__file__).resolve().parent
    everything = sorted(core.rglob("*.py"))
    used = [path for path in everything if b"\nfrom cadseg.kernels import" in path.read_bytes()]
    return [core / "kernels.py", *used]


def folder(preferred: str = "") -> str | None:
    """Where to keep compiled kernels, made and fit to be written; None if nowhere.

    Args:
        preferred: folder to keep it in; "" for the user's cache folder.
    """
    digest = hashlib.sha256()
    for path in sources():
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    name = f"kernels-{digest.hexdigest()[:16]}"
    for parent in _parents(preferred):
        with contextlib.suppress(OSError):
            return _made(parent / "cadseg", name)
    with contextlib.suppress(OSError):  # everyone may write there: a folder of one's own
        return _made(Path(tempfile.gettempdir(), f"cadseg-{os.getuid()}"), name, private=True)
    return None


def _parents(preferred: str) -> Iterator[Path]:
    asked = preferred, os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")
    yield from (Path(path) for path in asked if os.path.isabs(path))


def _made(parent: Path, name: str, *, private: bool = False) -> str:
    """The folder `name` in `parent`, in use from now on; the first time, old ones beside it go.

    Raises:
        OSError: it cannot be made or written, or, where it has to be private, is another user's.
    """
    parent.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)
    found = parent.lstat()
    if private and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise PermissionError(f"{parent} is not private")
    path = parent / name
    new = not path.exists()
    path.mkdir(exist_ok=True)
    tempfile.TemporaryFile(dir=path).close()
    os.utime(path)
    if new:
        _remove_old(parent)
    return str(path)


def _remove_old(parent: Path) -> None:
    oldest = time.time() - KEPT_DAYS * 86_400
    for path in parent.glob("kernels-*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path)
