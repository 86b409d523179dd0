"""Edges per second, and memory per edge, of agglomerating one generated graph in one process.

    python tests/benchmarks/edges.py EDGES mean|median [MEMORY_GB]

Clusters lie on a cubic lattice and touch 14 others each, like the cells of a foam; affinities are
independent and uniform, so that all ends up in a few segments. The graph comes from files, in eight
parts, as an upper level's from its children; beyond MEMORY_GB all that is made of it is in files,
too. Prints one line of a table; memory is what is in no file, beyond that of an idle process.
"""

from __future__ import annotations

import functools
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cadseg.agglomeration.agglomerate import agglomerate, memory_for, scratch_for
from cadseg.agglomeration.scoring import Scoring
from cadseg.graph.cluster_graph import Graph, joined_columns, sizes
from cadseg.storage.scratch import Scratch, parts

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = ((0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))
"""To the neighbours with larger numbers, in ascending order."""

FLOOR = 0.1
CHILDREN = 8
FOLDER = Path(tempfile.gettempdir())


def main() -> None:
    """Agglomerate, and print what it took."""
    edges, scoring = int(float(sys.argv[1])), sys.argv[2]
    budget = float(sys.argv[3]) * 1e9 if len(sys.argv) > 3 else float("inf")
    _agglomerated(lattice(3, scoring), scoring, budget)  # compiles
    graph = lattice(round((edges / len(STEPS)) ** (1 / 3)), scoring)
    size = graph.u.size
    with Peak() as peak:
        started = time.process_time()
        merges = _agglomerated(graph, scoring, budget)
        seconds = time.process_time() - started
    planned = memory_for(size, graph.bin.size)
    print(
        f"| {scoring} | {size / 1e6:.2f} M | {merges / 1e6:.2f} M | {seconds:.1f} "
        f"| {size / seconds / 1e6:.2f} M | {'files' if planned > budget else 'memory'} "
        f"| {peak.bytes / 2**30:.3f} | {peak.bytes / size:.0f} of {planned / size:.0f} |"
    )


class Peak:
    """Largest memory of this process that is in no file, in bytes, beyond that at the start."""

    def __enter__(self) -> Peak:
        """Look from now on."""
        self.bytes, self._idle, self._ended = 0, self._now(), threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.bytes = max(self.bytes, self._now() - self._idle)

    @staticmethod
    def _now() -> int:
        found = re.search(r"RssAnon:\s*(\d+)", Path("/proc/self/status").read_text())
        assert found
        return int(found[1]) * 1024


def _agglomerated(graph: Graph, scoring: str, budget: float) -> int:
    """How many merges the graph has."""
    rule = Scoring.of(scoring, "uint8")
    children = [functools.partial(_column, graph, child) for child in range(CHILDREN)]
    scratch = scratch_for(*sizes(children), budget, FOLDER)
    rows = joined_columns(children, scratch)
    none, floor = np.empty(0, np.uint64), rule.at_least(FLOOR)
    merges, _ = agglomerate(rows, none, scoring=rule, floor=floor, scratch=scratch)
    return merges.fragment.size


def _column(graph: Graph, child: int, name: str) -> Iterator[Any]:
    """A column of every eighth row, part by part."""
    values = getattr(graph, name)[child::CHILDREN]
    for part in parts(values.size):
        yield values[part]


def lattice(side: int, scoring: str) -> Graph:
    """Edges of a lattice of `side` clusters per axis, in files, layer by layer."""
    rng = np.random.default_rng(0)
    size = sum((side - z) * (side - y) * (side - x) for z, y, x in STEPS)
    scratch = Scratch(FOLDER)
    u, v, total, count = (scratch.empty(size, np.uint64) for _ in range(4))
    largest = scratch.empty(size if scoring == "median" else 0, np.uint32)
    at = 0
    for layer in range(side):
        y, x = np.divmod(np.arange(side * side), side)
        number = 1 + layer * side * side + np.arange(side * side)
        exists = np.stack(
            [(layer + c < side) & (y + b < side) & (x + a < side) for c, b, a in STEPS]
        )
        jump = np.array([(c * side + b) * side + a for c, b, a in STEPS])
        here = slice(at, at + int(exists.sum()))
        u[here] = np.broadcast_to(number[:, None], exists.T.shape)[exists.T]
        v[here] = (number[:, None] + jump)[exists.T]
        count[here] = rng.integers(1, 200, here.stop - at)
        affinity = rng.integers(0, 256, here.stop - at, np.uint64)
        total[here] = count[here] * affinity
        if scoring == "median":
            largest[here] = affinity
        at = here.stop
    return Graph(
        u=u,
        v=v,
        key_u=u,
        key_v=v,
        sum=total,
        count=count,
        width=scratch.full(size, scoring == "median", np.uint32),
        bin=largest,
        bin_count=scratch.full(largest.size, 1, np.uint64),
    )


if __name__ == "__main__":
    main()
