"""Ids and what they become.

An id without an entry stays itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from cadseg.arrays import Ids


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
        if self.ids.size == 0:
            return ids.copy()
        place = np.minimum(np.searchsorted(self.ids, ids), self.ids.size - 1)
        return np.where(self.ids[place] == ids, self.names[place], ids)

    def followed(self) -> Renaming:
        """What ids become in the end, where names are renamed in turn; there must be no cycle.

        Each round doubles the steps, so rounds are logarithmic in the longest path.
        """
        names = self.names
        while True:
            further = Renaming(self.ids, names).of(names)
            if np.array_equal(further, names):
                return Renaming(self.ids, names)
            names = further

    def then(self, after: Renaming) -> Renaming:
        """First this, then `after`, whose own ids are not in this one."""
        ids = np.concatenate((self.ids, after.ids))
        return Renaming.by_id(ids, np.concatenate((after.of(self.names), after.names)))
