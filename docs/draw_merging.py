"""Merging in small graphs: a nearest-neighbour chain step by step, and what the key decides."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from drawing import BLUE, GREEN, GREY, INK, ORANGE, Page, Point
from toy_graph import chain, graph_of, merged

if TYPE_CHECKING:
    from toy_graph import Graph

Places = dict[int, Point]

CHAIN_PLACES: Places = {
    1: (0, 50),
    2: (50, 5),
    3: (118, 5),
    4: (168, 50),
    5: (118, 95),
    6: (50, 95),
}

CHAIN = {(1, 2): 40, (2, 3): 60, (3, 4): 80, (4, 5): 50, (2, 5): 30, (5, 6): 70, (1, 6): 20}

TIED_PLACES: Places = {1: (0, 0), 2: (150, 110), 3: (150, 0), 4: (0, 110)}
TIED = {(1, 3): 1, (1, 4): 2, (2, 3): 2, (2, 4): 1, (3, 4): 2}
"""Of the smallest graphs in which the smallest key makes the tree depend on the order, one."""


def neighbour_chain() -> Page:
    """Six states of a walk that begins at cluster 1."""
    page = Page.of(404)
    states = chain(graph_of(CHAIN), 1)
    words = [
        "from 1 to its best, 2 (40)",
        "from 2 to its best, 3 (60)",
        "on to 4 (80), whose best is 3:\nthese two will merge",
        "merged; back at 2, whose best\nis the cluster 3,4 (60)",
        "its best is 2: merge",
        "back at 1; what were 30 and 50\nis one edge, median 50",
    ]
    names = {cluster: str(cluster) for cluster in CHAIN_PLACES}
    places = dict(CHAIN_PLACES)
    for place, (walk, graph, _) in enumerate(states[1:7]):
        before = states[place].walk
        if len(walk) < len(before):  # the two at its end have merged
            stays, goes = sorted(before[-2:])
            names[stays] = ",".join(sorted((names[stays] + "," + names[goes]).split(",")))
            places[stays] = _part(places[stays], places[goes], 0.5)
        corner = 34 + 240 * (place % 3), 76 + 200 * (place // 3)
        page.title((corner[0] - 24, corner[1] - 46), f"{place + 1}.")
        page.text((corner[0] - 2, corner[1] - 46), words[place], 8.5, ha="left")
        _draw(page, graph, _moved(places, corner), names, walk)
    return page


def keys() -> Page:
    """A tied graph in which keeping the smallest key makes the result depend on the order."""
    page = Page.of(406)
    graph = graph_of(TIED)
    after = {1: (0, 55), 2: (120, 110), 3: (120, 0)}
    for row, (join, name) in enumerate(((max, "largest"), (min, "smallest"))):
        colour, y = (GREEN, ORANGE)[row], 60 + 204 * row
        page.title((10, y - 38), f"of two keys the {name} stays")
        _keyed(page, graph, _moved(TIED_PLACES, (46, y)), {})
        _keyed(page, merged(graph, (1, 4), join), _moved(after, (308, y)), {1: "1,4"})
        page.arrow((238, y + 55), (280, y + 55), INK)
        page.text((258, y + 43), "merge 1,4", 8)
        page.arrow((468, y + 55), (500, y + 55), colour)
        page.text((483, y + 43), "best", 8, colour)
        page.text((508, y - 4), f"then merge {NEXT[name]}", 9.5, colour, ha="left", weight="bold")
        page.text((508, y + 12), SENTENCES[name], 8.5, ha="left", va="top")
    return page


NEXT = {"largest": "2 and 3", "smallest": "1,4 and 3"}
SENTENCES = {
    "largest": (
        "3's edges to 1,4 and to 2 tie at 2;\nkeys 34 and 23 decide, as before\n"
        "1 and 4 merged. So 2 and 3 are\neach other's best all the time, and\n"
        "may merge whenever they like."
    ),
    "smallest": (
        "The worse part, 1 (key 13), lends\nits key: 3's edge to 1,4 is now\n"
        "better than its parts were. All four\nare one at 2. Had 2 and 3 merged\n"
        "first, their edge to 1,4 would be\n1,1,2, so 1, and they stay apart."
    ),
}


def _draw(
    page: Page, graph: Graph, at: Places, names: dict[int, str], walk: tuple[int, ...]
) -> None:
    """Clusters, and edges with their scores; those of the walk stand out."""
    for (u, v), edge in graph.items():
        page.line([at[u], at[v]], GREY, 1, zorder=1)
        page.tag(_part(at[u], at[v], 0.5), str(edge.score))
    for one, other in itertools.pairwise(walk):
        page.arrow(_part(at[one], at[other], 0.1), _part(at[one], at[other], 0.84), ORANGE, 2)
    for cluster in sorted({end for pair in graph for end in pair}):
        fill, line = ("#fbe3d3", ORANGE) if cluster in walk else ("white", GREY)
        page.card(at[cluster], (16 + 6 * len(names[cluster]), 20), names[cluster], fill, line)


def _keyed(page: Page, graph: Graph, at: Places, names: dict[int, str]) -> None:
    """Clusters, and edges with score and key."""
    for (u, v), edge in graph.items():
        best = edge.score == 2
        page.line([at[u], at[v]], BLUE if best else GREY, 2 if best else 1, zorder=1)
        words = f"{','.join(map(str, edge.maxima))} (key {edge.key[0]}{edge.key[1]})"
        page.tag(_part(at[u], at[v], 0.5), words, colour=BLUE if best else GREY)
    for cluster in sorted({end for pair in graph for end in pair}):
        name = names.get(cluster, str(cluster))
        page.card(at[cluster], (16 + 6 * len(name), 20), name, "white")


def _moved(places: Places, corner: Point) -> Places:
    return {cluster: (corner[0] + x, corner[1] + y) for cluster, (x, y) in places.items()}


def _part(begin: Point, end: Point, share: float) -> Point:
    return begin[0] + share * (end[0] - begin[0]), begin[1] + share * (end[1] - begin[1])
