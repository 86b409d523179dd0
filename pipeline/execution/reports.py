"""Reports on blocks that cannot be read: left by workers, in ``OUT/lost/STEP``, for the driver."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cadseg.workers.names import divided, listed
from cadseg.workers.records import LostBlockError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cadseg.blocks import Zyx
    from cadseg.storage.files import Files

REPORTS = "lost"


def report(files: Files, lost: LostBlockError) -> None:
    """Leave a report on a block that cannot be read."""
    files.write(
        _name(lost.step, lost.cell), json.dumps({"file": lost.file, "reason": lost.reason}).encode()
    )


def reports(files: Files) -> Iterator[LostBlockError]:
    """All reports."""
    for step in files.list(REPORTS):
        for cell in listed(files, f"{REPORTS}/{step}", ".json"):
            name = _name(step, cell)
            try:
                found = json.loads(files.read(name))
                file, reason = str(found["file"]), str(found["reason"])
            except (ValueError, LookupError, TypeError):
                file, reason = name, "it cannot be read"
            yield LostBlockError(step, cell, file, reason)


def clear_report(files: Files, lost: LostBlockError) -> None:
    """Remove the report on a block."""
    files.remove(_name(lost.step, lost.cell))


def _name(step: str, cell: Zyx) -> str:
    return divided(f"{REPORTS}/{step}", cell, ".json")
