"""The student network, its affinities, and inference with it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cadseg.errors import CadsegError
from cadseg.models import weights
from cadseg.models.affinity import affinities
from cadseg.models.predict import Predictor, device_kind, folded, predicted, ready
from cadseg.models.student import CONTEXT, Student, StudentConfig


@pytest.fixture(scope="module")
def student():
    """A student of the usual size."""
    return trained(StudentConfig())


@pytest.fixture(scope="module")
def narrow():
    """A student with few filters: as deep, and as far-sighted, as one with many."""
    return trained(StudentConfig(filters=4, embedding=4))


def trained(config):
    """A student whose batch norms are not the identity, as after training."""
    torch.manual_seed(3)
    made = Student(config).eval()
    for norm in (m for m in made.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.05, 0.2)
    return made


def greys(*shape, seed=0):
    """Random grey values."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_size(student):
    """The network has as many parameters as the published one."""
    assert sum(p.numel() for p in student.parameters()) == 900_816


def test_cost():
    """A pair of 256 x 256 sections costs as many multiplications as in the published network."""
    macs = 0

    def count(conv, _, output):
        nonlocal macs
        macs += output.numel() * conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]

    student = Student(StudentConfig()).eval()
    for conv in (m for m in student.modules() if isinstance(m, nn.Conv2d)):
        conv.register_forward_hook(count)
    with torch.inference_mode():
        student(torch.zeros(1, 2, 256, 256))
    assert macs == 4_615_831_552


def test_embeds_both_sections(student):
    """Each of the two sections gets an embedding of its own, of the section's size."""
    with torch.inference_mode():
        lower, upper = student(torch.rand(3, 2, 32, 48))
    assert lower.shape == upper.shape == (3, 16, 32, 48)
    assert not torch.equal(lower, upper)


@pytest.mark.parametrize("shape", [(1, 2, 24, 32), (1, 2, 32, 40), (1, 1, 32, 32), (1, 2, 0, 16)])
def test_shape_is_checked_at_the_entrance(student, shape):
    """A wrong shape is refused with a sentence that says which shapes are accepted."""
    with pytest.raises(ValueError, match="multiples of 16"):
        student(torch.zeros(shape))


@pytest.mark.parametrize("detail", ["full", "half"])
def test_each_head_has_the_detail_of_its_own_section(narrow, detail):
    """Heads that are blind to the trunk embed their own section, whatever the other one is."""
    blind = copy.deepcopy(narrow).requires_grad_(False)
    f = narrow.config.filters
    for head in (blind.lower, blind.upper):
        if detail == "full":
            nn.init.zeros_(head.up4[0].weight[:, f:])
        else:
            nn.init.zeros_(head.up4[0].weight[:, :f])
            nn.init.zeros_(head.up3[0].weight[:, 2 * f :])
    raw = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        lower, upper = blind(raw[:, :2])
        same, other_upper = blind(raw[:, [0, 2]])
        other_lower, too = blind(raw[:, [2, 1]])
    assert torch.allclose(lower, same, atol=1e-5)
    assert torch.allclose(upper, too, atol=1e-5)
    assert not torch.allclose(upper, other_upper, atol=1e-2)
    assert not torch.allclose(lower, other_lower, atol=1e-2)


def test_one_section_is_no_pair(student):
    """A crop of one section is refused with a sentence that says what is accepted."""
    with pytest.raises(ValueError, match="D of 2 or more"):
        student.sections(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(("crops", "sections"), [(1, 2), (1, 5), (3, 4)])
def test_neighbours_in_a_crop(narrow, crops, sections):
    """All neighbouring sections of a crop are embedded as they are pair by pair."""
    raw = torch.rand(crops, sections, 32, 48)
    with torch.inference_mode():
        lower, upper = narrow.sections(raw)
        assert lower.shape == upper.shape == (crops, sections - 1, 4, 32, 48)
        for p in range(sections - 1):
            below, above = narrow(raw[:, p : p + 2])
            assert torch.allclose(lower[:, p], below, atol=1e-5)
            assert torch.allclose(upper[:, p], above, atol=1e-5)


def test_channels_stay_last():
    """With channels last in memory, every layer gets them so, also of a crop of many sections."""
    student = Student(StudentConfig(filters=4, embedding=4)).to(memory_format=torch.channels_last)
    layouts = []
    for conv in (m for m in student.modules() if isinstance(m, nn.Conv2d)):
        conv.register_forward_hook(
            lambda _, inputs, output: layouts.extend(
                x.is_contiguous(memory_format=torch.channels_last) for x in (*inputs, output)
            )
        )
    student.sections(torch.rand(2, 4, 96, 96))
    assert len(layouts) == 2 * 24
    assert all(layouts)


def test_gradients_of_neighbours():
    """Gradients of all neighbours of a crop are those of the function computed."""
    student = trained(StudentConfig(filters=2, embedding=2)).double()
    raw = torch.rand(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(student.sections, raw, atol=1e-9, fast_mode=True)


def test_channels_stay_last_on_the_way_back():
    """Gradients that reach a pixel-wise layer have channels last in memory too, without gaps."""
    student = Student(StudentConfig(filters=4, embedding=4)).to(memory_format=torch.channels_last)
    lower, upper = student.sections(torch.rand(2, 4, 96, 96))
    nodes, seen, layouts = [lower.grad_fn, upper.grad_fn], set(), []
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        nodes += [before for before, _ in node.next_functions if before]
        if node.name().startswith(("Relu", "Upsample")):
            node.register_prehook(
                lambda slopes: layouts.append(
                    slopes[0].is_contiguous(memory_format=torch.channels_last)
                )
            )
    (lower.sum() + upper.sum()).backward()
    assert len(layouts) == 22 + 5
    assert all(layouts)


def test_a_section_is_seen_once():
    """What belongs to one section alone is computed once for each section of a crop."""
    student, seen = Student(StudentConfig(filters=2, embedding=2)), []
    for block in (student.stem, student.down0, student.down1):
        block.register_forward_hook(lambda _, inputs, output: seen.append(len(output)))
    student.sections(torch.rand(2, 5, 32, 32))
    assert seen == [10, 10, 8]


@pytest.mark.parametrize("axis", [1, 2])
def test_far_pixels_do_not_matter(narrow, axis):
    """Nothing beyond the context changes an affinity by a single bit."""
    length = 16 * 34
    strip = torch.rand(1, 2, 16, length)
    changed = strip.repeat(32, 1, 1, 1)
    edges = range(256, 256 + 16)  # all positions relative to the poolings
    for i, edge in enumerate(edges):
        changed[2 * i, ..., edge:] = torch.rand(length - edge)
        changed[2 * i + 1, ..., :edge] = torch.rand(edge)
    both = torch.cat([strip, changed])
    if axis == 1:
        both = both.transpose(2, 3).contiguous()
    with torch.inference_mode():
        out = affinities(*folded(narrow)(both))
    if axis == 1:
        out = out.transpose(2, 3)
    reached, (lower, upper) = 0, CONTEXT
    for i, edge in enumerate(edges):
        above, below = (out[1 + 2 * i + k] != out[0] for k in (0, 1))
        assert not above[..., : edge - upper].any()  # the nearest changed pixel is `edge`
        assert not below[..., edge + lower :].any()  # ... and here it is `edge` - 1
        reached = max(reached, edge - int(above.any((0, 1)).nonzero().min()))
    assert reached > upper / 2, "the context is far too wide, or this test sees nothing"


def test_tiles_agree_where_they_overlap(narrow):
    """A pixel far from the border has the same affinity in every tile that holds it."""
    raw = greys(2, 32, 640)
    near, far = raw[..., :512], raw[..., 128:]
    one, two = (predicted(folded(narrow), t) for t in (near, far))
    assert np.array_equal(one[..., 256:384], two[..., 128:256])


def test_align_corners_breaks_that(narrow):
    """With the authors' upsampling a pixel's value depends on the size of the tile."""
    authors = Student(StudentConfig(filters=4, embedding=4, align_corners=True)).eval()
    authors.load_state_dict(narrow.state_dict())
    raw = torch.rand(1, 2, 16, 512)
    with torch.inference_mode():
        assert not torch.allclose(authors(raw)[0][..., :64], authors(raw[..., :400])[0][..., :64])
        assert torch.allclose(
            narrow(raw)[0][..., :64], narrow(raw[..., :400])[0][..., :64], atol=1e-5
        )


def test_affinities_join_a_pixel_to_its_lower_neighbour():
    """The affinity of a pixel is the cosine with the pixel before it along z, y, and x."""
    rng = np.random.default_rng(1)
    lower, upper = rng.normal(size=(2, 2, 4, 5, 6))
    affs = affinities(torch.from_numpy(lower), torch.from_numpy(upper)).numpy()

    def cosine(a, b):
        return max(0.0, float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b)))

    expected = np.zeros((2, 3, 5, 6))
    for b, y, x in np.ndindex(2, 5, 6):
        here = upper[b, :, y, x]
        expected[b, 0, y, x] = cosine(here, lower[b, :, y, x])
        expected[b, 1, y, x] = cosine(here, upper[b, :, y - 1, x]) if y else 0
        expected[b, 2, y, x] = cosine(here, upper[b, :, y, x - 1]) if x else 0
    assert affs.dtype == np.float32
    assert np.allclose(affs, expected, atol=1e-6)


def test_affinities_of_nothing_are_zero():
    """Embeddings of length 0 give affinities of 0, not NaN."""
    assert affinities(torch.zeros(1, 4, 3, 3), torch.zeros(1, 4, 3, 3)).eq(0).all()


def test_affinities_do_not_see_lengths():
    """Making an embedding longer or shorter changes no affinity."""
    lower, upper = torch.randn(2, 1, 16, 8, 8)
    factor = torch.rand(8, 8) * 9 + 0.1
    assert torch.allclose(
        affinities(lower, upper), affinities(lower * 3, upper * factor), atol=1e-6
    )


def test_folding_changes_nothing(student):
    """The network without batch norm layers computes what the one with them does."""
    raw = torch.rand(2, 2, 48, 32)
    with torch.inference_mode():
        before, after = student(raw), folded(student)(raw)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded(student).modules())
    for one, two in zip(before, after, strict=True):
        assert torch.allclose(one, two, atol=1e-4)


def test_prediction_is_the_rounded_affinity(student):
    """Predicted bytes are 255 times the affinity, rounded half to even."""
    raw = greys(3, 48, 64)
    pairs = torch.from_numpy(np.stack([raw[:2], raw[1:]])).float() / 255
    with torch.inference_mode():
        exact = affinities(*student(pairs)).double().numpy().swapaxes(0, 1) * 255
    found = predicted(student, raw)
    assert found.dtype == np.uint8
    assert found.shape == (3, 2, 48, 64)
    assert np.abs(found - exact).max() < 0.5 + 1e-2
    assert np.ptp(found) > 100


def test_company_does_not_matter(student):
    """A pair gives the same bytes whatever else is in its window, and at every repetition."""
    fast = ready(student, "cpu")
    window = greys(5, 64, 64)
    alone = predicted(fast, window)
    for i in range(4):
        others = greys(5, 64, 64, seed=i + 1)
        others[i : i + 2] = window[i : i + 2]
        assert np.array_equal(predicted(fast, others)[:, i], alone[:, i])


def test_any_array_can_be_predicted(student):
    """Read-only, mirrored and strided arrays give what their copies give."""
    raw = greys(2, 32, 64)[::-1, :, ::2]
    raw.flags.writeable = False
    assert np.array_equal(predicted(student, raw[..., :32]), predicted(student, raw.copy()))


def test_predictor_reads_a_file(student, tmp_path):
    """A predictor made of a weights file predicts what the student in it predicts."""
    weights.save(tmp_path / "a.safetensors", student)
    predictor = Predictor(tmp_path / "a.safetensors", threads=torch.get_num_threads())
    raw = greys(2, 32, 32)
    difference = predictor(raw).astype(int) - predicted(student, raw)
    assert np.abs(difference).max() <= 1  # of rounding: the same sums in another order


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"device": "tpu"}, "accepted are auto, cpu"), ({"precision": "float16"}, "accepted")],
)
def test_predictor_refuses(student, tmp_path, options, problem):
    """What the machine cannot do is refused with a sentence."""
    weights.save(tmp_path / "a.safetensors", student)
    with pytest.raises(CadsegError, match=problem):
        Predictor(tmp_path / "a.safetensors", **options)


def test_less_precise_arithmetic_is_close(student, tmp_path):
    """With bfloat16 arithmetic, affinities are the same within a few percent."""
    weights.save(tmp_path / "a.safetensors", student)
    raw = greys(2, 64, 64)
    exact, fast = (
        Predictor(tmp_path / "a.safetensors", precision=precision)(raw).astype(int)
        for precision in ("float32", "bfloat16")
    )
    assert 0 < np.abs(exact - fast).max()
    assert np.abs(exact - fast).mean() < 0.02 * 255


def test_auto_takes_what_is_there():
    """A device is asked for by its name, or as auto."""
    assert device_kind("cpu") == "cpu"
    assert device_kind("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("precision", "limit"), [("float32", 1), ("float16", 4), ("bfloat16", 32)])
def test_a_gpu_agrees_with_the_cpu(student, tmp_path, precision, limit):
    """A GPU gives the CPU's affinities, up to the rounding of its arithmetic."""
    weights.save(tmp_path / "a.safetensors", student)
    raw = greys(3, 64, 64)
    on_cpu = Predictor(tmp_path / "a.safetensors")(raw).astype(int)
    on_gpu = Predictor(tmp_path / "a.safetensors", device="cuda", precision=precision)(raw)
    assert np.abs(on_gpu - on_cpu).max() <= limit
