"""Edges per second, and memory per edge, of agglomerating one generated graph in one process.

    python tests/benchmarks/edges.py EDGES mean|median

Clusters lie on a cubic lattice and touch 14 others each, like the cells of a foam; affinities are
independent and uniform, so that all ends up in a few segments. Prints one line of a table.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from cadseg.agglomeration.agglomerate import agglomerate
from cadseg.agglomeration.scoring import Scoring
from cadseg.graph.cluster_graph import Graph

STEPS = ((0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))
"""To the neighbours with larger numbers, in ascending order."""

FLOOR = 0.1


def main() -> None:
    """Agglomerate, and print what it took."""
    edges, scoring = int(float(sys.argv[1])), sys.argv[2]
    _agglomerated(lattice(3, scoring), scoring)  # compiles
    graph = lattice(round((edges / len(STEPS)) ** (1 / 3)), scoring)
    size = graph.u.size
    started = time.process_time()
    merges = _agglomerated(graph, scoring)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"| {scoring} | {size / 1e6:.2f} M | {merges / 1e6:.2f} M | {seconds:.1f} "
        f"| {size / seconds / 1e6:.2f} M | {peak / 2**30:.2f} | {peak / size:.0f} |"
    )


def _agglomerated(graph: Graph, scoring: str) -> int:
    """How many merges the graph has."""
    rule = Scoring.of(scoring, "uint8")
    floor = rule.at_least(FLOOR)
    merges, _ = agglomerate(graph, np.empty(0, np.uint64), scoring=rule, floor=floor)
    return merges.fragment.size


def lattice(side: int, scoring: str) -> Graph:
    """Edges of a lattice of `side` clusters per axis, made layer by layer."""
    rng = np.random.default_rng(0)
    size = sum((side - z) * (side - y) * (side - x) for z, y, x in STEPS)
    u, v, total, count = (np.empty(size, np.uint64) for _ in range(4))
    largest = np.empty(size if scoring == "median" else 0, np.uint32)
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
        width=np.full(size, scoring == "median", np.uint32),
        bin=largest,
        bin_count=np.ones(largest.size, np.uint64),
    )


if __name__ == "__main__":
    main()
