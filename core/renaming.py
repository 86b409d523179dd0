"""Sorted ids: finding them, and what they become. An id without an entry stays itself.

Ids are looked for from where the last one was found, by steps that double: tables may be longer
than memory, and what is asked for is mostly nearly as sorted as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cadseg.kernels import in_place

if TYPE_CHECKING:
    from cadseg.arrays import Flags, Ids, Int


class Renaming(NamedTuple):
    """A table of ids that change.

    Attributes:
        ids: sorted, uint64, each once.
        names: what each becomes, uint64.
    """

    ids: Ids
    names: Ids

    @classmethod
    def empty(cls) -> Renaming:
        """All ids stay."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint64))

    @classmethod
    def by_id(cls, ids: Ids, names: Ids) -> Renaming:
        """From entries in any order."""
        order = np.argsort(ids, kind="stable")
        return cls(ids[order], names[order])

    def of(self, ids: Ids) -> Ids:
        """What `ids` become, an array of any shape."""
        self._check()
        out = ids.copy()
        _rename(self.ids, self.names, out.ravel())
        return out

    def follow(self) -> None:
        """Change the names to what ids become in the end, where names are renamed in turn.

        Raises:
            ValueError: ids are not sorted, each once, or become one another.
        """
        self._check()
        if not (_ascend(self.ids) and _follow(self.ids, self.names)):
            raise ValueError("names: ids that are not in order, or become one another")

    def _check(self) -> None:
        if self.ids.size != self.names.size:
            raise ValueError("names: columns are not of one length")


def mark(ids: Ids, some: Ids, flags: Flags) -> None:
    """Set the flags of those of `ids`, which are sorted, that are among `some`."""
    assert flags.size == ids.size
    _mark(ids, some, flags)


@in_place
def place_of(ids: Ids, one: Int, near: int) -> int:
    """The first place of sorted `ids` that holds `one` or more; looked for around `near`."""
    low, high = -1, ids.size  # ids[low] < one <= ids[high]
    step, at = 1, min(near, ids.size - 1)
    if at >= 0 and ids[at] < one:
        while at < high and ids[at] < one:
            low = at
            at += step
            step *= 2
        high = min(at, high)
    else:
        while at >= 0 and ids[at] >= one:
            high = at
            at -= step
            step *= 2
        low = max(at, low)
    while high - low > 1:
        middle = (low + high) >> 1
        if ids[middle] < one:
            low = middle
        else:
            high = middle
    return high


@in_place
def _ascend(ids: Ids) -> bool:
    """Whether they are sorted, each once."""
    for i in range(1, ids.size):
        if ids[i] <= ids[i - 1]:
            return False
    return True


@in_place
def _rename(ids: Ids, names: Ids, values: Ids) -> None:
    at = 0
    for i in range(values.size):
        at = place_of(ids, values[i], at)
        if at < ids.size and ids[at] == values[i]:
            values[i] = names[at]


@in_place
def _mark(ids: Ids, some: Ids, flags: Flags) -> None:
    at = 0
    for i in range(some.size):
        at = place_of(ids, some[i], at)
        if at < ids.size and ids[at] == some[i]:
            flags[at] = True


@in_place
def _follow(ids: Ids, names: Ids) -> bool:
    """Names before row `i` are final; a path that was followed leads to its end at once.

    Returns whether there is no cycle; an id that becomes itself is the end of its path.
    """
    for i in range(ids.size):
        end = names[i]
        at = place_of(ids, end, i)
        steps = 0
        while at > i and at < ids.size and ids[at] == end and names[at] != end:
            end = names[at]
            at = place_of(ids, end, at)
            steps += 1
            if steps > ids.size:
                return False
        if at == i and ids[i] == end and steps:
            return False
        if at < i and ids[at] == end:
            end = names[at]
        at = i
        while names[at] != end:
            name = names[at]
            names[at] = end
            at = place_of(ids, name, at)
    return True
