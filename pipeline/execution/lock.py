"""One run at a time: a second one where one is alive is refused.

A run creates a lock, ``lock-1.json``, which says who it is, renews it again and again by counting
in it, and removes it at the end. The lock of a process that was killed lapses: at once where we can
see that the process has gone, else when we have watched it for some minutes and nobody counted. No
clock is asked but our own, which only measures how long we have watched.

A lapsed lock is taken over by creating the one with the next number: of all who find
``lock-1.json`` lapsed, one creates ``lock-2.json``, since a store creates an object once. Nothing
else is asked of the store. A run that has created its lock looks around once more, and goes back
where there is a lock that it has not seen lapse: it had looked before that run began.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import sys
import threading
import time
import uuid
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import psutil

from cadseg.errors import OutputError
from cadseg.pipeline.execution.guard import apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cadseg.storage.files import Files

LOCK = re.compile(r"lock-(\d+)\.json")
BEAT = 10.0  # seconds between two renewals
LAPSE = 120.0  # seconds without one after which a lock lapses whose process we cannot see
PATIENCE = 5.0  # seconds for which the end of a run waits for a disk that may not answer


@contextlib.contextmanager
def lock(files: Files) -> Iterator[Callable[[], None]]:
    """Be the one run at `files`.

    Yields:
        what checks that this run is still the one, and that the store takes what it writes.

    Raises:
        OutputError: another run is alive there.
    """
    me = _me()
    name = _taken(files, me)
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(files, name, me, over), daemon=True)
    beat.start()

    def check() -> None:
        if not _is_mine(files, name, me):
            raise OSError(errno.ESTALE, "another run has taken the folder over")
        files.check()

    def release() -> None:
        beat.join()
        if _is_mine(files, name, me):
            files.remove(name)

    try:
        yield check
    finally:
        over.set()
        wait([apart(release)], PATIENCE)


def _taken(files: Files, me: dict[str, Any]) -> str:
    """Name of the lock that this run has created."""
    lapsed = {name: _lapsed(files, name) for name in _locks(files)}
    number = max((int(one[1]) for name in lapsed if (one := LOCK.fullmatch(name))), default=0)
    mine = f"lock-{number + 1}.json"
    if not files.create(mine, _content(me, 0)):
        raise _refusal(files, _read(files, mine))
    try:
        for name in _locks(files):
            found = _read(files, name)
            if name != mine and found not in (None, lapsed.get(name)):
                raise _refusal(files, found)
        for name in lapsed:
            files.remove(name)
    except BaseException:
        files.remove(mine)
        raise
    return mine


def _locks(files: Files) -> list[str]:
    return [name for name in files.list("") if LOCK.fullmatch(name)]


def _lapsed(files: Files, name: str) -> bytes | None:
    """The content of a lock that has lapsed, for which we may have to wait; None once it has gone.

    Raises:
        OutputError: it is alive.
    """
    content, since = _read(files, name), time.monotonic()
    if content is not None and _alive(_holder(content)) is None:
        text = f"waiting for up to {LAPSE:g} seconds to see whether the run of {name} is alive"
        print(f"{files.url}: {text}", file=sys.stderr)
    while (found := _read(files, name)) is not None:
        alive = _alive(_holder(found))
        if alive or found != content:
            raise _refusal(files, found)
        if alive is False or time.monotonic() - since > LAPSE:
            break
        time.sleep(min(BEAT, LAPSE) / 10)
    return found


def _read(files: Files, name: str) -> bytes | None:
    try:
        return files.read(name)
    except FileNotFoundError:
        return None


def _is_mine(files: Files, name: str, me: dict[str, Any]) -> bool:
    # a run that was silent for long may have lost its lock
    return bool(_holder(_read(files, name)).get("token") == me["token"])


def _holder(content: bytes | None) -> dict[str, Any]:
    """What a lock says of the process that made it; nothing where that cannot be read."""
    try:
        found = json.loads(content or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _content(me: dict[str, Any], beat: int) -> bytes:
    return json.dumps(me | {"beat": f"{beat:09}"}).encode()  # of one length: nothing to truncate


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


def _alive(holder: dict[str, Any]) -> bool | None:
    """Whether a lock's process is there; None where we cannot see that."""
    pid, born = holder.get("pid"), holder.get("born")
    here = (holder.get("host"), holder.get("space")) == (platform.node(), _space())
    if not here or not isinstance(pid, int) or not isinstance(born, float):
        return None
    try:
        process = psutil.Process(pid)
        # another process may have the number by now; the clock may have been set by a second
        same = abs(process.create_time() - born) < 2
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):  # a number that no process can have
        return False


def _refusal(files: Files, content: bytes | None) -> OutputError:
    holder = _holder(content)
    return OutputError(
        f"{files.url} is in use by pid {holder.get('pid', 'unknown')} on host "
        f"{holder.get('host', 'unknown')}; wait until that run is over, end it, "
        "or choose another folder"
    )


def _beat(files: Files, name: str, me: dict[str, Any], over: threading.Event) -> None:
    beat = 0
    while not over.wait(BEAT):
        beat += 1
        with contextlib.suppress(OSError):
            files.renew(name, _content(me, beat))
