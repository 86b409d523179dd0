"""What networks say that they need is what they need: no less, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from cadseg.models.student import Student, StudentConfig
from cadseg.models.teacher import Teacher, TeacherConfig

if TYPE_CHECKING:
    from cadseg.models.network import Network

Y, Z = 1, 0


def transparent(network: Network) -> Network:
    """The network with weights that let every grey value through, and change 0 to 0.

    Nothing cancels, so an output is above 0 exactly where something above 0 plays a part in it.
    """
    network = network.double().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def small(kind: type[Network]) -> Network:
    """A network of one channel, which is as far-sighted as one with many."""
    if kind is Student:
        return transparent(Student(StudentConfig(filters=1, embedding=1)))
    return transparent(Teacher(TeacherConfig(widths=(1, 1, 1, 1, 1), embedding=1)))


@torch.inference_mode()
def reached(network: Network, raw_DYX: torch.Tensor, axis: int) -> tuple[int, int]:
    """The first and the last place along an axis where an embedding sees what is not 0."""
    if isinstance(network, Student):
        embeddings = torch.stack(network.sections(raw_DYX[None]))
    else:
        embeddings = network(raw_DYX[None])
    rest = [n for n in range(embeddings.ndim) if n != embeddings.ndim - 3 + axis]
    places = embeddings.abs().sum(rest).nonzero()
    return int(places.min()), int(places.max())


@pytest.mark.parametrize("kind", [Student, Teacher])
def test_the_context_in_a_section_is_what_is_seen(kind: type[Network]) -> None:
    """Every pixel of the context, and none beyond it, plays a part in some affinity.

    A grey value is seen by the embeddings around it; an affinity sees its own embedding, and that
    of its lower neighbour.
    """
    network, length = small(kind), 512
    below = above = 0
    for place in range(length // 2, length // 2 + network.needs.multiple[Y]):
        raw_DYX = torch.zeros(2, length, 16, dtype=torch.double)
        raw_DYX[:, place] = 1
        first, last = reached(network, raw_DYX, Y)
        above, below = max(above, place - first), max(below, last - place)
    assert network.needs.context[Y] == (below + 1, above)


def test_the_context_across_sections_is_what_is_seen() -> None:
    """A teacher's affinities see 18 sections up, and one more down for their lower neighbour."""
    network = small(Teacher)
    raw_DYX = torch.zeros(41, 16, 16, dtype=torch.double)
    raw_DYX[20] = 1
    first, last = reached(network, raw_DYX, Z)
    assert network.needs.context[Z] == (last - 20 + 1, 20 - first)
    assert network.needs.sections == (19, 18)


def test_align_corners_sees_the_whole_window() -> None:
    """Networks that upsample as CAD's authors do name no context within a section."""
    networks = (
        Student(StudentConfig(filters=1, embedding=1, align_corners=True)),
        Teacher(TeacherConfig(widths=(1, 1, 1, 1, 1), embedding=1, align_corners=True)),
    )
    assert [network.needs.context[1:] for network in networks] == [(None, None)] * 2
