"""Exits and entries of a block's children → its own, with the paths between children followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadseg.fragments import climb
from cadseg.renaming import Renaming
from cadseg.storage.sorting import collected, distinct, merged, ordered, slices
from cadseg.workers import levels
from cadseg.workers.estimates import ENTRY, EXIT, crossing_paths, within_budget
from cadseg.workers.step import Cost, StepKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cadseg.blocks import Block
    from cadseg.storage.columns import Table
    from cadseg.storage.scratch import Scratch
    from cadseg.workers.step import Work
    from cadseg.workers.store import Store
    from cadseg.workers.writer import BlockWriter


def run(block: Block, store: Store, out: BlockWriter) -> dict[str, int]:
    """Write the tables `exits`, `entries`, and `tops`: where each child's exits lead."""
    rows = levels.rows_of_children("entries", block, store)
    leaving = levels.rows_of_children("exits", block, store)
    scratch = levels.scratch_for(store, ENTRY * rows + EXIT * leaving)
    ends = _ends(block, store, rows, scratch)
    exits = ordered(_leaving(block, store, ends), ("exit",), leaving, scratch)
    counts = {
        "exits": levels.write(out, "exits", ("exit",), distinct(exits, "exit")),
        "entries": levels.write(out, "entries", ("entry", "top"), _outer(block, store, ends)),
    }
    levels.hand_down(out, "tops", ("top",), _tops(block, store, ends))
    return counts


def _ends(block: Block, store: Store, rows: int, scratch: Scratch) -> Renaming:
    """Where paths that enter a child end, or leave the block."""
    entries = merged(levels.of_children("entries", block, store), "entry")
    ends = Renaming(*collected(entries, ("entry", "top"), rows, scratch).values())
    ends.follow()
    return ends


def _tops(block: Block, store: Store, ends: Renaming) -> Iterator[Iterable[Table]]:
    """For each child, where its exits lead."""
    for exits in levels.of_children("exits", block, store):
        yield ({"top": ends.of(part["exit"])} for part in exits)


def _leaving(block: Block, store: Store, ends: Renaming) -> Iterator[Table]:
    """Where paths leave the block."""
    for tops in _tops(block, store, ends):
        for part in tops:
            outside = ~climb.within(part["top"], block.write, store.grid.shape)
            yield {"exit": part["top"][outside]}


def _outer(block: Block, store: Store, ends: Renaming) -> Iterator[Table]:
    """Entries on faces of the block."""
    for part in slices({"entry": ends.ids, "top": ends.names}):
        outer = climb.on_faces(part["entry"], block.write, store.grid.domain, store.grid.shape)
        yield {name: column[outer] for name, column in part.items()}


def cost(work: Work) -> Cost:
    """Tables alone."""
    return Cost(memory=within_budget(work, (ENTRY + EXIT) * crossing_paths(work)))


KIND = StepKind(
    name="resolve_up",
    run=run,
    cost=cost,
    reads_tables=("exits", "entries"),
    tables=("exits", "entries", "tops", "tops_begins"),
    on_levels=True,
)
