"""Scorings: with which number the contact between two clusters is judged.

Agglomeration merges the best contact first, and asks of a scoring that it is *reducible*: when two
clusters merge, a neighbour's contact with the union is not better than the better of its contacts
with the two. The mean is, and every quantile.

A scoring is a file beside this one that holds what `Method` lists, and has a row in `METHODS` and a
branch in each of the three kernels here. Kernels take a `Scoring`, two integers, as one argument.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from cadseg.agglomeration import mean_affinity, median_of_maxima
from cadseg.agglomeration.scores import digits_for, fixed_point
from cadseg.kernels import inlined

if TYPE_CHECKING:
    from cadseg.agglomeration.rows import Rows
    from cadseg.arrays import Array, Ids, Int
    from cadseg.graph.cluster_graph import Graph
    from cadseg.graph.edges import Edges


class Method(Protocol):
    """What the file of a scoring holds, beside its kernels `score_of`, `join` and `fraction`."""

    WATERZ: str
    """What waterz calls it."""

    HISTOGRAMS: bool
    """Whether it needs the histogram of every row."""

    def from_edges(self, edges: Edges) -> Graph:
        """Rows of original edges, with all that their scores and those of joined rows need."""

    def waterz_threshold(self, lowest: float) -> float:
        """Where waterz is to stop, so that it merges down to the score `lowest`, a grey level."""

    def from_waterz(self, affinities: Array) -> tuple[Ids, Ids]:
        """Fractions, in grey levels, for waterz's scores as affinities in 0..1."""


METHODS: dict[str, Method] = {"mean": mean_affinity, "median": median_of_maxima}
"""By the name in the config, `agglomerate.scoring`."""

_MEAN, _MEDIAN = range(len(METHODS))


class Scoring(NamedTuple):
    """One of the methods, for affinities of one type.

    Attributes:
        place: of the method in `METHODS`.
        half: half the number of fraction bits of a score, as in `cadseg.agglomeration.scores`.
    """

    place: int
    half: int

    @classmethod
    def of(cls, name: str, dtype: Any) -> Scoring:
        """The scoring of this name, for affinities of an unsigned type."""
        return cls(list(METHODS).index(name), (64 - 8 * np.dtype(dtype).itemsize) // 2)

    @property
    def method(self) -> Method:
        """What is done in Python."""
        return list(METHODS.values())[self.place]

    def at_least(self, threshold: float) -> int:
        """The smallest score of an affinity of at least `threshold`, 0..1.

        A threshold is meant as it is written: 0.1 is one tenth. A score of exactly the threshold
        has the threshold's floor, so it passes.
        """
        one = (1 << (64 - 2 * self.half)) - 1 << 2 * self.half
        return math.floor(Fraction(repr(float(threshold))) * one)

    def of_fractions(self, totals: Ids, counts: Ids) -> Ids:
        """Scores of merges, by numpy: a worker that only cuts need not wait for a compiler."""
        digits = digits_for(int(counts.max(initial=1)), self.half)
        return np.asarray(fixed_point(totals, counts, *digits))


@inlined
def score_of(rows: Rows, row: Int, scoring: Scoring) -> Any:
    """Score of a row."""
    if scoring.place == _MEDIAN:
        return median_of_maxima.score_of(rows, row, scoring.half)
    return mean_affinity.score_of(rows, row, scoring.half)


@inlined
def join(rows: Rows, row: Int, other: Int, scoring: Scoring) -> None:
    """Add to `row` what `other` has, beside the sum and the count, which are added already."""
    if scoring.place == _MEDIAN:
        median_of_maxima.join(rows, row, other)
    else:
        mean_affinity.join(rows, row, other)


@inlined
def fraction(rows: Rows, row: Int, scoring: Scoring) -> tuple[Int, Int]:
    """The score of a row as the fraction that a merge stores, (sum, count)."""
    if scoring.place == _MEDIAN:
        return median_of_maxima.fraction(rows, row, scoring.half)
    return mean_affinity.fraction(rows, row, scoring.half)
