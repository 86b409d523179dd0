"""One run at a time: a second one where one is alive is refused.

A run creates a lock, ``lock-1.json``, which says who it is, renews it again and again, and removes
it at the end. The lock of a process that was killed lapses: at once where we can see that the
process has gone, else when nobody has renewed it for some minutes.

A lapsed lock is taken over by creating the one with the next number: of all who find
``lock-1.json`` lapsed, one creates ``lock-2.json``, since a store creates an object once. Nothing
else is asked of the store. A run that has created its lock looks around once more, and goes back
where another lock is alive: it had looked before that run began.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import threading
import uuid
from typing import TYPE_CHECKING, Any

import psutil

from cadseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cadseg.storage.files import Files

LOCK = re.compile(r"lock-(\d+)\.json")
BEAT = 10.0  # seconds between two renewals
LAPSE = 300.0  # seconds without one after which a lock lapses whose process we cannot see


@contextlib.contextmanager
def lock(files: Files) -> Iterator[None]:
    """Be the one run at `files`.

    Raises:
        OutputError: another run is alive there.
    """
    me = _me()
    name = _taken(files, me)
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(files, name, over), daemon=True)
    beat.start()
    try:
        yield
    finally:
        over.set()
        beat.join()
        if _read(files, name) == me:  # a run that was silent for long may have lost it
            files.remove(name)


def _taken(files: Files, me: dict[str, Any]) -> str:
    """Name of the lock that this run has created."""
    lapsed = _locks(files)
    _refuse_alive(files, lapsed)
    number = max((int(found[1]) for name in lapsed if (found := LOCK.fullmatch(name))), default=0)
    mine = f"lock-{number + 1}.json"
    if not files.create(mine, json.dumps(me).encode()):
        raise _refusal(files, _read(files, mine))
    try:
        _refuse_alive(files, [name for name in _locks(files) if name != mine])
        for name in lapsed:
            files.remove(name)
    except BaseException:
        files.remove(mine)
        raise
    return mine


def _locks(files: Files) -> list[str]:
    return [name for name in files.list("") if LOCK.fullmatch(name)]


def _refuse_alive(files: Files, locks: list[str]) -> None:
    for name in locks:
        found = _read(files, name)
        with contextlib.suppress(FileNotFoundError):  # removed by now
            if _alive(found, files.age(name)):
                raise _refusal(files, found)


def _read(files: Files, name: str) -> dict[str, Any]:
    try:
        found = json.loads(files.read(name))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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


def _alive(found: dict[str, Any], silent: float) -> bool:
    pid, born = found.get("pid"), found.get("born")
    here = (found.get("host"), found.get("space")) == (platform.node(), _space())
    if not here or not isinstance(pid, int) or not isinstance(born, float):
        return silent < LAPSE
    try:
        process = psutil.Process(pid)
        # another process may have the number by now; the clock may have been set by a second
        same = abs(process.create_time() - born) < 2
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _refusal(files: Files, found: dict[str, Any]) -> OutputError:
    return OutputError(
        f"{files.url} is in use by pid {found.get('pid', 'unknown')} on host "
        f"{found.get('host', 'unknown')}; wait until that run is over, end it, "
        "or choose another folder"
    )


def _beat(files: Files, name: str, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with contextlib.suppress(OSError):
            files.renew(name)
