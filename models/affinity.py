"""Affinities between neighbouring pixels, from embeddings of a section pair.

Affinities are ``[B, 3, Y, X]`` in 0..1, channels in the order z, y, x. The affinity at a pixel of
the upper section joins it to its *lower* neighbour along that axis: the same pixel of the lower
section (z), the pixel above (y), the pixel to the left (x). It is the cosine of the angle between
the two embeddings, clamped to 0..1. In-plane affinities come from the upper section's embedding
alone. The first row of y and the first column of x are 0: there is nothing to be joined to.

Source: CAD (Liu et al., CVPR 2024), except for the border, where the authors repeat another row.

Axis letters: B pairs, E embedding, Y X pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

OFFSETS = ((1, 1, 1), (2, 3, 3), (3, 9, 9), (4, 27, 27))
"""How far apart the two voxels of an edge lie in z, y, x: four reaches, twelve channels."""

EPSILON = 1e-6
"""Embeddings shorter than this count as this long: no division by 0, affinity 0."""


def affinities(lower_BEYX: Tensor, upper_BEYX: Tensor) -> Tensor:
    """Affinities of the upper section, float32 [B, 3, Y, X] in 0..1; see the module's docstring.

    Args:
        lower_BEYX: embedding of section z - 1, any float type, any length.
        upper_BEYX: embedding of section z.
    """
    u_BEYX = F.normalize(lower_BEYX.float(), dim=1, eps=EPSILON)
    v_BEYX = F.normalize(upper_BEYX.float(), dim=1, eps=EPSILON)
    z_BYX = (u_BEYX * v_BEYX).sum(dim=1)
    y_BYX = (v_BEYX[:, :, 1:] * v_BEYX[:, :, :-1]).sum(dim=1)
    x_BYX = (v_BEYX[:, :, :, 1:] * v_BEYX[:, :, :, :-1]).sum(dim=1)
    y_BYX = F.pad(y_BYX, (0, 0, 1, 0))
    x_BYX = F.pad(x_BYX, (1, 0))
    return torch.stack([z_BYX, y_BYX, x_BYX], dim=1).clamp(0, 1)
