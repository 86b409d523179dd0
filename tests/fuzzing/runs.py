"""A run's own files, spoilt between two commands: seen and made anew, or named in a sentence."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import real_run as real

from cadseg.workers.names import divided
from fuzzing import mutations
from fuzzing.case import Case

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

COARSE = "block_shape=[6, 21, 48]"
WORDS = (*real.SMALL, f"--set={COARSE}", "--serial")
ROOT = ("run.json", "zarr.json")
NOTE = {
    "attempt": 1,
    "error": "ValueError: x",
    "errno": None,
    "log": "logs/worker-1.log",
    "pid": 1,
    "host": "here",
    "started": 1.5,
}
LOCK = {
    "pid": 1,
    "host": "here",
    "space": "pid:[1]",
    "born": 1.5,
    "token": "a",
    "beat": "000000001",
}
VERIFIED = {"when": 1.5, "files": 3, "size": 4, "damaged": 0, "left": 0}
LOST = {"file": "basins/c/0/0/0", "reason": "it is missing"}
CELL = (0, 0, 0)
LEFT = {
    divided("logs/attempts/climb", CELL, ".json"): NOTE,
    divided("logs/attempts/segment", CELL, ".json"): NOTE,
    divided("lost/climb", CELL, ".json"): LOST,
    "lock-1.json": LOCK,
    "verified.json": VERIFIED,
}
"""What may lie there besides."""


def prepare(folder: Path) -> None:
    """A run as far as its fragments, and the same to its end."""
    folder.mkdir()
    affinities = real.volume(folder / "affs.zarr", real.affinities())
    for name, until in (("half", "fragments"), ("whole", None)):
        real.segment(affinities, folder / name, COARSE, until=until)


def spoilt_run(random: Random, folder: Path) -> Case:
    """One file of a run changed, or one that does not belong there; the same command follows."""
    place, out = folder / "inputs/runs", folder / "case/o"
    state = random.choice(("half", "whole"))
    shutil.copytree(place / state, out)
    name = _spoil(random, out)
    command = random.choice(("segment", "segment", "status", "relabel", "verify"))
    if command == "segment":
        words: tuple[Any, ...] = ("segment", place / "affs.zarr", "--out", out, *WORDS)
    elif command == "relabel":
        threshold = json.loads((place / "whole/run.json").read_text())["config"]["segment"]
        words = ("relabel", out, f"--threshold={threshold['threshold']}", "--serial")
    else:
        words = (command, out, *(["--repair"] if command == "verify" else []))

    def check(_: object) -> None:
        whole = place / "whole"
        if command == "segment":
            assert real.differing(out, whole) == []
            assert all((out / file).read_bytes() == (whole / file).read_bytes() for file in ROOT)
        if command == "relabel":  # which reads less than all the rest
            assert _segmentation(out) == _segmentation(whole)

    return Case(words, check, f"{command} {state} {name}")


def _segmentation(out: Path) -> dict[str, bytes]:
    """What a new threshold rewrites."""
    paths = [*(out / "segmentation").rglob("*"), *(out / "segments").rglob("*")]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths if path.is_file()}


def _spoil(random: Random, out: Path) -> str:
    """Change a file; its name."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    kind = random.choice(("left", "run.json", "zarr.json", "records", "any", "any"))
    if kind == "left":
        name = random.choice(list(LEFT))
        path, data = out / name, json.dumps(LEFT[name]).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        path = random.choice([p for p in files if kind in ("any", p.name, *p.parts)])
        data = path.read_bytes()
    change = mutations.in_json if path.suffix == ".json" else mutations.in_bytes
    if kind != "left" and random.random() < 0.1:
        path.unlink()
    else:
        path.write_bytes(change(random, data))
    return str(path.relative_to(out))
