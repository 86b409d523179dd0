"""Up the levels and down again: which tables go where."""

from __future__ import annotations

from drawing import BLUE, GREY, INK, ORANGE, Page, Point

HEIGHTS = (236, 150, 64)  # of the levels' boxes, level 0 first
COLUMN, FILL = 136, "#f2f4f7"
STAGES = ("fragments", "fragments, edges", "agglomerate", "segment", "segment")
PASSES = (  # name, direction, tables that go, tables or arrays that stay
    ("resolve_up", "up", "exits,\nentries", ("from climb", "", "")),
    ("resolve_down", "down", "roots", ("names", "", "")),
    ("agglomerate", "up", "rows, bins,\nfrozen", ("merges", "merges", "merges")),
    ("cut", "down", "cut", ("names", "", "")),
    ("measure", "up", "parts", ("", "segments", "segments")),
)


def levels() -> Page:
    """Five passes over three levels; the tables that go, and what stays at each level."""
    page = Page.of(330)
    for level, y in enumerate(HEIGHTS):
        page.text((8, y), f"level {level}", 8.5, GREY, ha="left")
        if level == 2:
            page.text((8, y + 13), "(top)", 8.5, GREY, ha="left")
    for place, (name, way, tables, stay) in enumerate(PASSES):
        x, colour = 56 + COLUMN * place, BLUE if way == "up" else ORANGE
        page.text((x + 58, 20), name, 9.5, weight="bold")
        for level, y in enumerate(HEIGHTS):
            _cells(page, (x, y), level, stay[level])
        for level in (0, 1):
            _arrows(page, x, level, way, colour)
            page.tag((x + 58, sum(HEIGHTS[level : level + 2]) / 2), tables, 8, colour)
        if place:
            page.text((x - 10, 276), "▸", 10, GREY)
    for place, words in enumerate(STAGES):
        page.text((114 + COLUMN * place, 276), words, 8.5, INK, style="italic")
    page.text((8, 276), "stage", 8.5, GREY, ha="left")
    page.text((8, 306), "blue: up, from blocks to the block that holds them", 8.5, BLUE, ha="left")
    page.text((370, 306), "orange: down, from a block to those in it", 8.5, ORANGE, ha="left")
    return page


def _cells(page: Page, at: Point, level: int, stay: str) -> None:
    """The blocks of a level, drawn along one axis: four, two, or one."""
    count = 4 >> level
    width = 116 / count
    for i in range(count):
        left = at[0] + i * width
        corners = (left + 1, at[1] - 15), (left + width - 1, at[1] + 15)
        page.box(*corners, fill=FILL, line=GREY, linewidth=0.9)
    if stay:
        page.tag((at[0] + 58, at[1]), stay, 8, fill=FILL)


def _arrows(page: Page, x: float, level: int, way: str, colour: str) -> None:
    """Between the cells of a level and those that hold them."""
    count = 4 >> level
    for i in range(count):
        low = x + (i + 0.5) * 116 / count, HEIGHTS[level] - 17.0
        high = x + 58 + (low[0] - x - 58) * (0.8 if level == 0 else 0.5), HEIGHTS[level + 1] + 17.0
        page.arrow(*((low, high) if way == "up" else (high, low)), colour, 1.1)
