"""Many spoilt inputs: ``PYTHONPATH=tests python -m fuzzing KIND N [FIRST]``; KIND may be ``all``.

Prints the inputs on which the law of `fuzzing.case` does not hold, by kind and seed, and how many
were refused and accepted.
"""

from __future__ import annotations

import faulthandler
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import fuzzing
from fuzzing.case import HangError, held


def main(kind: str, number: int, first: int = 0) -> None:
    """Try so many inputs of a kind."""
    warnings.simplefilter("error")
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fuzzing.prepare(folder)
        for each in fuzzing.KINDS if kind == "all" else (kind,):
            began, ends, seen = time.monotonic(), Counter[str](), Counter[str]()
            for seed in range(first, first + number):
                end, how = tried(each, seed, folder)
                ends[end] += 1
                seen[how] += 1
                if how and seen[how] == 1:
                    print(f"{each} {seed}: {how}", flush=True)
            print(f"{each}: {dict(ends)} in {time.monotonic() - began:.0f} s", flush=True)
            for how, times in seen.most_common():
                if how:
                    print(f"{times:>8} {how[:100]}")


def tried(kind: str, seed: int, folder: Path) -> tuple[str, str]:
    """How one ended, and what went wrong."""
    try:
        return held(fuzzing.KINDS[kind], seed, folder), ""
    except (Exception, HangError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = next((f for f in reversed(frames) if "cadseg" in f.filename), frames[-1])
        text = " ".join(str(error).split())[:400]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return "failed", f"{place} {type(error).__name__} {text}"


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
