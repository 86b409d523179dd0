"""The teacher network."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cadseg.models.predict import folded
from cadseg.models.teacher import Teacher, TeacherConfig, by_section

NARROW = TeacherConfig(widths=(2, 3, 4, 5, 6), embedding=4)


@pytest.fixture
def narrow():
    """A teacher with few filters: as deep as the usual one."""
    torch.manual_seed(3)
    return Teacher(NARROW)


def test_size_and_cost():
    """The network has the published one's parameters, and its multiplications per crop."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        teacher = Teacher(TeacherConfig())
        embeddings = teacher(torch.empty(1, 18, 160, 160))
    assert embeddings.shape == (1, 16, 18, 160, 160)
    assert sum(p.numel() for p in teacher.parameters()) == 1_478_036
    assert counter.get_total_flops() == 2 * 86_948_352_000


def literal(weights, raw):
    """The network of the paper, step by step, with batch norms of fresh statistics."""

    def conv(x, name, padding):
        bias = weights.get(f"{name}.bias")
        return nn.functional.conv3d(x, weights[f"{name}.weight"], bias, padding=padding)

    def elu(x, norm=None):
        if norm:
            scale, shift = (weights[f"{norm}.{part}"] for part in ("weight", "bias"))
            x = x / (1 + 1e-5) ** 0.5 * scale.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1)
        return torch.where(x > 0, x, x.exp() - 1)

    def residual(x, name):
        x = elu(conv(x, f"{name}.first.0", (0, 1, 1)), f"{name}.first.1")
        y = elu(conv(x, f"{name}.second.0", 1), f"{name}.second.1")
        return elu(x + conv(y, f"{name}.second.3", 1), f"{name}.last.0")

    x = residual(elu(conv(raw[:, None], "enter.0", (0, 2, 2))), "down.0")
    skips = [x]
    for i in range(1, 5):
        x = residual(nn.functional.max_pool3d(x, (1, 2, 2)), f"down.{i}")
        skips.append(x)
    for i, skip in enumerate(skips[3::-1]):
        x = nn.functional.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear")
        x = elu(conv(x, f"up.{i}.narrow", 0) + skip, f"up.{i}.joined.0")
        x = residual(x, f"up.{i}.joined.2")
    return conv(elu(conv(x, "leave.0", (0, 2, 2))), "out", 0)


def test_layer_for_layer(narrow):
    """The network computes what its description says, written out once more."""
    for norm in (m for m in narrow.modules() if isinstance(m, nn.BatchNorm3d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
    raw = torch.rand(2, 3, 32, 48)
    with torch.inference_mode():
        expected = literal(narrow.state_dict(), raw)
        assert torch.allclose(narrow.eval()(raw), expected, atol=1e-4)


def test_fresh_weights(narrow):
    """Convolutions begin with weights that keep the variance of what ELU lets through, and 0."""
    teacher = Teacher(TeacherConfig())
    across = teacher.down[2].second[0].weight
    assert across.std().item() == pytest.approx((2 / (48 * 27)) ** 0.5, rel=0.05)
    for conv in (m for m in narrow.modules() if isinstance(m, nn.Conv3d)):
        assert conv.bias is None or not conv.bias.any()
    assert {m.momentum for m in narrow.modules() if isinstance(m, nn.BatchNorm3d)} == {0.001}


@pytest.mark.parametrize("shape", [(1, 2, 24, 32), (1, 2, 32, 40), (1, 0, 32, 32), (1, 2, 0, 16)])
def test_shape_is_checked_at_the_entrance(narrow, shape):
    """A wrong shape is refused with a sentence that says which shapes are accepted."""
    with pytest.raises(ValueError, match="multiples of 16"):
        narrow(torch.zeros(shape))


def test_company_does_not_matter(narrow):
    """A crop has the same embeddings whatever else is in its batch."""
    raw = torch.rand(2, 3, 32, 16)
    narrow.eval()
    with torch.inference_mode():
        both = narrow(raw)
        assert torch.allclose(both[1:], narrow(raw[1:]), atol=1e-5)
        assert not torch.allclose(both[0], both[1], atol=1e-2)


def test_sections_are_seen_up_and_down(narrow):
    """What changes in one section changes the embeddings of those above and below it."""
    raw = torch.rand(1, 5, 16, 16)
    changed = raw.clone()
    changed[:, 2] = 0
    narrow.eval()
    with torch.inference_mode():
        moved = (narrow(raw) - narrow(changed)).abs().amax(dim=(0, 1, 3, 4))
    assert (moved > 1e-4).all()


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsampling_is_within_sections(align_corners):
    """The sections of a crop are upsampled each alone, which is what trilinear (1, 2, 2) gives."""
    teacher = Teacher(NARROW.model_copy(update={"align_corners": align_corners}))
    x = torch.rand(2, 3, 4, 5, 6)
    sections = [teacher._double(section) for section in x.unbind(2)]
    expected = nn.functional.interpolate(
        x, scale_factor=(1, 2, 2), mode="trilinear", align_corners=align_corners
    )
    assert torch.allclose(torch.stack(sections, dim=2), expected, atol=1e-6)


def test_channels_stay_last():
    """Pooling and upsampling get sections whose channels are last in memory, and keep them so."""
    seen = []

    def pooled(x):
        seen.append(x)
        return nn.functional.max_pool2d(x, 2)

    x = torch.rand(2, 3, 4, 6, 8).to(memory_format=torch.channels_last_3d)
    result = by_section(pooled, x)
    assert seen[0].data_ptr() == x.data_ptr()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert result.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(result, nn.functional.max_pool3d(x, (1, 2, 2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_layout_changes_nothing(narrow, dtype):
    """With channels last in memory, embeddings and gradients are the same."""
    raw = torch.rand(2, 2, 32, 32)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        narrow.to(memory_format=layout).zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            embeddings = narrow(raw)
        embeddings.float().square().mean().backward()
        results.append((embeddings.float(), narrow.enter[0].weight.grad.clone()))
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    for one, two in zip(*results, strict=True):
        assert torch.linalg.norm(one - two) < tolerance * torch.linalg.norm(one)


def test_what_is_done_in_place_is_not_needed_again(narrow):
    """Every gradient is that of the function computed, though activations overwrite their input."""
    narrow.double()
    raw = torch.rand(1, 2, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: narrow(r).mean(dim=(2, 3, 4)), raw, fast_mode=True)


def test_folding_changes_nothing(narrow):
    """A teacher with fewer batch norm layers, for inference, computes what the whole one does."""
    for norm in (m for m in narrow.modules() if isinstance(m, nn.BatchNorm3d)):
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.2, 2)
    raw = torch.rand(1, 3, 32, 32)
    fast = folded(narrow)
    assert sum(isinstance(m, nn.BatchNorm3d) for m in fast.modules()) == 9 + 4
    with torch.inference_mode():
        assert torch.allclose(narrow.eval()(raw), fast(raw), atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_agrees_with_the_cpu(narrow):
    """A GPU gives the CPU's embeddings, up to the rounding of its arithmetic."""
    raw = torch.rand(1, 4, 32, 32)
    narrow.eval()
    with torch.inference_mode():
        on_cpu = narrow(raw)
        on_gpu = narrow.cuda().to(memory_format=torch.channels_last_3d)(raw.cuda()).cpu()
    assert torch.linalg.norm(on_cpu - on_gpu) < 0.01 * torch.linalg.norm(on_cpu)
