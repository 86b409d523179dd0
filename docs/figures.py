"""Draws the figures of the docs: ``python docs/figures.py`` writes docs/images/*.svg again.

They are drawn by the kernels, the grid and the toy graph that they show, on the data that the
repository holds, so a figure that no longer tells the truth fails tests/test_docs.py.
"""

from __future__ import annotations

from pathlib import Path

from draw_blocks import blocks
from draw_fragments import flow, frozen
from draw_levels import levels
from draw_merging import keys, neighbour_chain

IMAGES = Path(__file__).resolve().parent / "images"
DRAWN = (flow, blocks, frozen, neighbour_chain, keys, levels)
FIGURES = {figure.__name__: figure for figure in DRAWN}


def main() -> None:
    """Write every figure."""
    for name, figure in FIGURES.items():
        figure().save(IMAGES / f"{name}.svg")


if __name__ == "__main__":
    main()
