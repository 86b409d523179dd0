"""Real voxels: from grey values to segments, and which fragments are frozen at a face.

One section of FIB-25 (FlyEM, HHMI Janelia; CC BY), climbed and merged by the kernels of a run.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from drawing import GREY, INK, ORANGE, Page
from scipy import ndimage

from cadseg import config as configs
from cadseg.evaluation import in_memory
from cadseg.graph.faces import faces_of

ROOT = Path(__file__).resolve().parents[1]
Array = np.ndarray[Any, Any]

SECTION, ROWS, COLUMNS = 14, slice(0, 90), slice(0, 120)
FACE = 70  # the left block's last column is the one before
NUMBERS = ("fragments.dimensions=2", "fragments.distance_clip=24", "fragments.sigma=1.5")
EDGE = (2710, 3551)  # between two fragments that both go on across the face
FROZEN = "touches the block's open face,\nor lies just beyond it"
PARTIAL = (
    "Each block counts a part\nof it, so neither knows its\nscore. Both are frozen in\n"
    "both: they wait for the\nblock that holds all of it."
)
THRESHOLD = 0.6
FINE = 4  # pixels per voxel, so that lines are finer than voxels
INKS = (
    np.array([0x75AADB, 0xF0B27A, 0x82C8A0, 0xD6A0C8, 0xF0DC82, 0xAAAAB4, 0xC8826E], ">u4")
    .view(np.uint8)
    .reshape(-1, 4)[:, 1:]
)


@functools.cache
def crop() -> tuple[Array, Array, Array, Array]:
    """Grey values [y, x], affinities [3, 1, y, x], fragments and segments [y, x]."""
    with h5py.File(ROOT / "tests" / "data" / "fib25_affinities.h5") as file:
        affinities = file["affinities"][:, SECTION : SECTION + 1, ROWS, COLUMNS]
    with h5py.File(ROOT / "pipeline" / "demo.h5") as file:
        raw = file["raw"][SECTION, 48:200, 48:200][ROWS, COLUMNS]
    ids, tree = in_memory.merged(affinities, configs.load("fibsem", NUMBERS))
    holds = tree.sum / tree.count / 255 >= THRESHOLD
    parent = dict(zip(tree.fragment[holds].tolist(), tree.parent[holds].tolist(), strict=True))

    def root(fragment: int) -> int:
        while fragment in parent:
            fragment = parent[fragment]
        return fragment

    segments = np.vectorize(root)(ids[0]).astype(np.uint64)
    return raw, affinities, ids[0], segments


def flow() -> Page:
    """Raw, affinities, fragments, segments of one crop."""
    raw, affinities, fragments, segments = crop()
    page = Page.of(206)
    grey = affinities[1:, 0].mean(0).astype(np.uint8)
    grey[0], grey[:, 0] = grey[1], grey[:, 1]
    shown = [
        ("raw", "grey values", _grey(raw)),
        ("affinities", "belief: same cell as neighbour", _grey(grey)),
        ("fragments", f"{np.unique(fragments).size} basins of the climb", coloured(fragments)),
        ("segmentation", f"{np.unique(segments).size} segments at {THRESHOLD}", coloured(segments)),
    ]
    for place, (name, words, image) in enumerate(shown):
        x = 10 + 180 * place
        page.picture(image, (x, 28), 160 / image.shape[1])
        page.box((x, 28), (x + 160, 148), line=GREY, linewidth=0.8)
        page.text((x + 80, 14), name, 10, weight="bold")
        page.text((x + 80, 162), words, 8)
        if place:
            page.arrow((x - 18, 88), (x - 2, 88), INK, 1.8)
    for place, words in enumerate(("predict", "fragments", "edges, agglomerate, segment")):
        page.text((190 + 180 * place - 10, 190), words, 9, ORANGE, style="italic")
        page.line([(180 + 180 * place, 176), (180 + 180 * place, 182)], ORANGE, 1)
    return page


def frozen() -> Page:
    """Two blocks, their frozen fragments hatched; and an edge of which both see a part."""
    _, affinities, fragments, _ = crop()
    page = Page.of(410)
    inks, seen = numbered(fragments), parts_of_edge(affinities[:, 0], fragments, EDGE)
    last, first = np.unique(fragments[:, FACE - 1]), np.unique(fragments[:, FACE])
    hatched = (
        faces_of([(2, 1, last)]).fragment,
        faces_of([(2, 0, first), (2, 0, last)]).fragment,
    )
    scale, corner = 3.8, 10.0
    halves = zip(("left", "right"), np.split(fragments, [FACE], 1), hatched, strict=True)
    for name, ids, cold in halves:
        page.picture(coloured(ids, inks, np.isin(ids, cold)), (corner, 32), scale / FINE)
        middle = corner + ids.shape[1] * scale / 2
        page.text((middle, 16), f"{name} block", 10, weight="bold")
        count = np.unique(ids[np.isin(ids, cold)]).size
        page.text((middle, 388), f"{count} frozen, {np.unique(ids).size - count} free", 9)
        for letter, fragment in zip("ab", EDGE, strict=True):
            y, x = _inside(ids == fragment)
            at = corner + (x + 0.5) * scale, 32 + (y + 0.5) * scale
            page.tag(at, letter, 10, weight="bold")
        corner += ids.shape[1] * scale + 24
    page.text((corner, 60), "hatched: frozen", 9.5, ha="left", weight="bold")
    page.text((corner, 84), FROZEN, 8.5, ha="left", va="top")
    page.text((corner, 160), "mean of the edge a - b", 9.5, ha="left", weight="bold")
    rows = [(name, *seen[name]) for name in ("left", "right")]
    rows.append(("whole", *np.sum([seen[name] for name in seen], 0)))
    for place, (name, total, count) in enumerate(rows):
        words = f"{name}: {total / count / 255:.2f} ({count} voxel pairs)"
        page.text((corner, 184 + 20 * place), words, 8.5, ha="left")
    page.text((corner, 250), PARTIAL, 8.5, ha="left", va="top")
    return page


def parts_of_edge(
    affinities: Array, fragments: Array, edge: tuple[int, int]
) -> dict[str, tuple[int, int]]:
    """Sum and count of the affinities [3, y, x] between two fragments, by block."""
    seen = {"left": (0, 0), "right": (0, 0)}
    for y, x in np.argwhere(np.isin(fragments, edge)).tolist():
        for axis, lower in ((1, (y - 1, x)), (2, (y, x - 1))):
            if min(lower) >= 0 and {int(fragments[lower]), int(fragments[y, x])} == set(edge):
                side = "left" if x < FACE else "right"
                total, count = seen[side]
                seen[side] = total + int(affinities[axis, y, x]), count + 1
    return seen


def _inside(mask: Array) -> tuple[int, int]:
    """The voxel of a mask that lies deepest in it."""
    y, x = np.unravel_index(
        ndimage.distance_transform_edt(np.pad(mask, 1)).argmax(), np.add(mask.shape, 2)
    )
    return int(y) - 1, int(x) - 1


def numbered(ids: Array) -> dict[int, int]:
    """A colour per id, such that neighbours differ."""
    near: dict[int, set[int]] = {int(i): set() for i in np.unique(ids)}
    for one, other in ((ids[1:], ids[:-1]), (ids[:, 1:], ids[:, :-1])):
        for u, v in np.unique(np.stack([one.ravel(), other.ravel()], 1), axis=0).tolist():
            if u != v:
                near[u].add(v)
                near[v].add(u)
    inks: dict[int, int] = {}
    for place, i in enumerate(sorted(near)):
        taken = {inks.get(j) for j in near[i]}
        order = [(place + k) % len(INKS) for k in range(len(INKS))]
        inks[i] = next(ink for ink in order if ink not in taken)
    return inks


def coloured(ids: Array, inks: dict[int, int] | None = None, hatched: Array | None = None) -> Array:
    """[y, x, 3], `FINE` pixels per voxel: colours, dark lines between ids, hatches."""
    inks = inks or numbered(ids)
    fine = ids.repeat(FINE, 0).repeat(FINE, 1)
    image = INKS[np.vectorize(inks.get)(fine)].copy()
    if hatched is not None:
        y, x = np.indices(fine.shape)
        stripes = (x + y) % 16 < 3
        image[stripes & hatched.repeat(FINE, 0).repeat(FINE, 1)] = (60, 60, 70)
    line = np.zeros(fine.shape, bool)
    line[:, 1:] |= fine[:, 1:] != fine[:, :-1]
    line[1:] |= fine[1:] != fine[:-1]
    image[line] = (20, 20, 25)
    return image


def _grey(image: Array) -> Array:
    return image[..., None].repeat(3, 2)
