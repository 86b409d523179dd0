"""Pencils for the figures: a page measured in pixels, y downwards, and what is drawn on it.

The only file that imports matplotlib here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

Point = tuple[float, float]

WIDTH = 720  # pixels of every page
DOTS = 100  # pixels per inch
INK, GREY, PALE = "#1b1f24", "#6e7781", "#d0d7de"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
"""Colours that the colour-blind can tell apart."""


@dataclass
class Page:
    """A white page `WIDTH` pixels wide, and its axes, which cover it."""

    figure: Figure
    axes: Any

    @classmethod
    def of(cls, height: int) -> Page:
        """An empty page."""
        figure = Figure((WIDTH / DOTS, height / DOTS), DOTS, facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(height, 0)
        axes.axis("off")
        return cls(figure, axes)

    def text(self, at: Point, words: str, size: float = 9, colour: str = INK, **how: Any) -> None:
        """Words, centred at a point unless `ha` and `va` say otherwise."""
        how = {"ha": "center", "va": "center"} | how
        self.axes.text(*at, words, size=size, color=colour, zorder=5, **how)

    def tag(self, at: Point, words: str, size: float = 8.5, colour: str = INK, **how: Any) -> None:
        """Words that hide what is under them; `fill` is their ground."""
        ground = {"facecolor": how.pop("fill", "white"), "edgecolor": "none", "pad": 1.2}
        self.text(at, words, size, colour, bbox=ground, **how)

    def title(self, at: Point, words: str) -> None:
        """What a panel shows, from a point on to the right."""
        self.text(at, words, 10, ha="left", weight="bold")

    def line(self, points: list[Point], colour: str = INK, width: float = 1, **how: Any) -> None:
        """A line through points."""
        self.axes.plot(*zip(*points, strict=True), color=colour, linewidth=width, **how)

    def arrow(self, begin: Point, end: Point, colour: str = INK, width: float = 1.4) -> None:
        """An arrow from point to point."""
        how = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "mutation_scale": 11}
        self.axes.annotate("", end, begin, arrowprops=how | {"shrinkA": 0, "shrinkB": 0})

    def box(
        self, begin: Point, end: Point, fill: str = "none", line: str = INK, **how: Any
    ) -> None:
        """A rectangle between two corners."""
        how = {"linewidth": 1.2} | how
        size = end[0] - begin[0], end[1] - begin[1]
        self.axes.add_patch(Rectangle(begin, *size, facecolor=fill, edgecolor=line, **how))

    def card(self, centre: Point, size: Point, words: str, fill: str, line: str = GREY) -> None:
        """Words in a rounded box."""
        corner = centre[0] - size[0] / 2, centre[1] - size[1] / 2
        shape = FancyBboxPatch(
            corner, *size, boxstyle="round,pad=0,rounding_size=5", facecolor=fill, edgecolor=line
        )
        self.axes.add_patch(shape)
        self.text(centre, words, 8.5)

    def picture(self, image: np.ndarray[Any, Any], corner: Point, scale: float) -> None:
        """An image [y, x, 3] uint8, its voxels `scale` pixels wide, from its corner on."""
        (x, y), (ny, nx) = corner, image.shape[:2]
        extent = (x, x + nx * scale, y + ny * scale, y)
        limits = self.axes.get_xlim(), self.axes.get_ylim()
        self.axes.imshow(image, extent=extent, interpolation="none", aspect="auto")
        self.axes.set_xlim(limits[0])
        self.axes.set_ylim(limits[1])

    def save(self, path: Path) -> None:
        """Write the page, the same bytes whenever it is the same."""
        with rc_context({"svg.hashsalt": "cadseg", "svg.fonttype": "none", "path.snap": False}):
            self.figure.savefig(path, format="svg", dpi=DOTS, metadata={"Date": None})
