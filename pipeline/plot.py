"""A plot of scores against the threshold. The only file that imports matplotlib."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING

from cadseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cadseg.arrays import Array

SIZE = (6.4, 4.0)  # inches
DOTS = 150  # per inch
LINES = {  # column: its label, colour (of a palette safe for colour blindness) and marker
    "voi_sum": ("VOI", "#000000", "o"),
    "voi_split": ("VOI split", "#0072b2", "v"),
    "voi_merge": ("VOI merge", "#d55e00", "^"),
    "arand": ("ARAND", "#009e73", "s"),
}


def check(path: Path) -> None:
    """Refuse a plot that cannot be made.

    Raises:
        OutputError: `path` is not a PNG, or matplotlib is not installed.
    """
    if path.suffix != ".png":
        raise OutputError(f"plot {path}: accepted is a file whose name ends in .png")
    if importlib.util.find_spec("matplotlib") is None:
        raise OutputError(
            f"plot {path}: needs matplotlib, which is not installed; pip install 'cadseg[plot]' "
            "installs it"
        )


def png(rows: Array, columns: Sequence[str], best: int) -> bytes:
    """A PNG of scores against the threshold.

    Args:
        rows: [point, column], in order of increasing threshold.
        columns: their names; one is the threshold.
        best: index of the point to mark.
    """
    from matplotlib.figure import Figure

    column = dict(zip(columns, rows.T, strict=True))
    threshold = column["threshold"]
    figure = Figure(SIZE, DOTS, layout="constrained")
    bits = figure.add_subplot()
    error = bits.twinx()
    handles = []
    for name, (label, colour, marker) in LINES.items():
        axes = error if name == "arand" else bits
        handles += axes.plot(
            threshold, column[name], color=colour, marker=marker, markersize=4, label=label
        )
    bits.axvline(threshold[best], color="#999999", linestyle=":", zorder=0)
    bits.set_xlabel(f"threshold (lowest VOI at {threshold[best]:g})")
    bits.set_ylabel("VOI, bits")
    error.set_ylabel("ARAND")
    for axes in (bits, error):
        axes.set_ylim(bottom=0)
    bits.legend(
        handles=handles, frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1)
    )
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
