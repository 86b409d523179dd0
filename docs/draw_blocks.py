"""A volume cut by the grid, one block with its boxes, and cells that double from level to level."""

from __future__ import annotations

from drawing import BLUE, GREEN, GREY, INK, ORANGE, PALE, Page, Point

from cadseg.blocks import Grid, Roi

GRID = Grid((1, 250, 330), Roi((0, 40, 46), (1, 225, 300)), (1, 64, 80))
HALO = (0, 14, 14)
CELL = (0, 2, 3)


def blocks() -> Page:
    """Left: what a block writes, computes and reads. Right: the levels of the grid."""
    page = Page.of(372)
    page.title((10, 16), "One block: cover, write, read")
    left = Panel(page, (10, 34), 1)
    left.cells(0, PALE, 1)
    left.frame()
    block = GRID.block(0, CELL, HALO)
    left.roi(block.read, "none", GREEN, linestyle=(0, (4, 2)))
    left.roi(block.cover, "#fbe3d3", ORANGE)
    left.roi(block.write, "#bcd9ec", BLUE)
    left.roi(GRID.domain, "none", INK, linestyle=":", linewidth=1.8)
    page.text(left.at(64, 54), "domain: the part to segment", 8.5, ha="left")
    page.text(left.at(4, 242), "volume; its origin is the grid's", 8.5, GREY, ha="left")
    rows = [
        (BLUE, "#bcd9ec", "write: cell ∩ domain, what the block computes"),
        (ORANGE, "#fbe3d3", "cover: cell ∩ volume, what it alone may write (rest 0)"),
        (GREEN, "none", "read: write + halo, clipped to the domain"),
    ]
    for place, (line, fill, words) in enumerate(rows):
        y = 302 + 22 * place
        page.box((12, y - 6), (28, y + 6), fill=fill, line=line)
        page.text((36, y), words, 8.5, ha="left")
    page.title((380, 16), "Levels: cells double per axis")
    right = Panel(page, (380, 34), 1)
    for level, colour, width in ((0, PALE, 1), (1, BLUE, 1.6), (2, ORANGE, 2.4)):
        right.cells(level, colour, width)
    right.frame()
    right.roi(GRID.domain, "none", INK, linestyle=":", linewidth=1.8)
    for place, (colour, level) in enumerate(((GREY, 0), (BLUE, 1), (ORANGE, 2))):
        y = 302 + 22 * place
        page.line([(382, y), (400, y)], colour, 1 + 0.7 * level)
        count = GRID.count(level)
        words = f"level {level}: {count} cells meet the domain" if count > 1 else (
            f"level {level}: one cell holds all of it, so it is the top"
        )  # fmt: skip
        page.text((406, y), words, 8.5, ha="left")
    return page


class Panel:
    """The plane y, x of the volume, on a page."""

    def __init__(self, page: Page, corner: Point, scale: float) -> None:
        """From `corner` on, with `scale` pixels per voxel."""
        self.page, self.corner, self.scale = page, corner, scale

    def at(self, x: float, y: float) -> Point:
        """Where a voxel lies on the page."""
        return self.corner[0] + x * self.scale, self.corner[1] + y * self.scale

    def roi(self, roi: Roi, fill: str, line: str, **how: object) -> None:
        """A box of voxels."""
        begin, end = self.at(roi.begin[2], roi.begin[1]), self.at(roi.end[2], roi.end[1])
        self.page.box(begin, end, fill=fill, line=line, **how)

    def frame(self) -> None:
        """The volume."""
        self.roi(GRID.volume, "none", GREY)

    def cells(self, level: int, colour: str, width: float) -> None:
        """All cells of a level that meet the domain, as far as they lie in the volume."""
        for cell in GRID.cells(level):
            self.roi(GRID.block(level, cell).cover, "none", colour, linewidth=width)
