"""One run per folder: a second one on a live folder is refused.

A run puts ``claim.json`` into its folder, saying who it is, touches it again and again, and removes
it at the end. The claim of a process that was killed lapses: at once where we can see that the
process has gone, else when nobody has touched the file for some minutes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import threading
import uuid
from typing import TYPE_CHECKING, Any

import psutil

from cadseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLAIM = "claim.json"
BEAT = 10.0  # seconds between two touches
LAPSE = 300.0  # seconds without a touch after which a claim lapses whose process we cannot see


@contextlib.contextmanager
def claim(out: Path) -> Iterator[None]:
    """Own the run's folder `out`, which is made if need be.

    Raises:
        OutputError: another run owns it.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / CLAIM
    mine = _me()
    with _alone(out):
        _take(path, mine)
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, over), daemon=True)
    beat.start()
    try:
        yield
    finally:
        over.set()
        beat.join()
        if _read(path) == mine:
            path.unlink(missing_ok=True)


def _me() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "space": _space(),
        "born": psutil.Process().create_time(),
        "token": uuid.uuid4().hex,
    }


def _space() -> str:
    # containers may share a host's name, and not see each other's processes
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    # of two that find a lapsed claim, one takes it over, and the other finds the new one
    handle = os.open(out, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _take(path: Path, mine: dict[str, Any]) -> None:
    fresh = path.with_name(f".{path.name}.{mine['token']}.part")
    fresh.write_text(json.dumps(mine))
    try:
        now = fresh.stat().st_mtime  # by the clock of the file system, as the claim's
        if path.exists():
            found = _read(path)
            if _alive(found, now - path.stat().st_mtime):
                raise OutputError(_refusal(path.parent, found))
            path.unlink()
        os.link(fresh, path)  # fails where there is a claim: never two
    except (FileExistsError, FileNotFoundError):
        raise OutputError(_refusal(path.parent, _read(path))) from None
    finally:
        fresh.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _alive(found: dict[str, Any], silent: float) -> bool:
    if (found.get("host"), found.get("space")) != (platform.node(), _space()):
        return silent < LAPSE
    try:
        process = psutil.Process(found["pid"])
        # another process may have the number by now; the clock may have been set by a second
        same = abs(process.create_time() - found["born"]) < 2
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _refusal(out: Path, found: dict[str, Any]) -> str:
    return (
        f"{out} is in use by pid {found.get('pid', 'unknown')} on host "
        f"{found.get('host', 'unknown')}; wait until that run is over, end it, "
        "or choose another folder"
    )


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)
