"""Affinities of a whole small volume in memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cadseg.models.affinity import OFFSETS, volume_affinities
from cadseg.models.predict import predicted as predicted_by
from cadseg.models.student import Student, StudentConfig
from cadseg.models.teacher import Teacher, TeacherConfig
from cadseg.models.whole_volume import (
    Patches,
    blended,
    starts,
    student_affinities,
    teacher_affinities,
    weight,
)

PATCH = (4, 16, 32)
OVERLAPPING = Patches(PATCH, stride=(2, 8, 16), margin=(1, 3, 3))
SINGLE = Patches(PATCH, stride=PATCH, margin=(0, 0, 0))


@pytest.fixture(scope="module")
def student():
    """A student with few filters."""
    torch.manual_seed(3)
    return seasoned(Student(StudentConfig(filters=4, embedding=4)), 0.05, 0.2)


@pytest.fixture(scope="module")
def teacher():
    """A teacher with few filters."""
    torch.manual_seed(3)
    return seasoned(Teacher(TeacherConfig(widths=(2, 3, 4, 5, 6), embedding=4)), 0.2, 2)


def seasoned(network, *variance):
    """The network with batch norms that are not the identity, still in training mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(*variance)
    return network


def predicted(network, raw, **options):
    """Affinities by the student, or by the teacher in patches that overlap."""
    if isinstance(network, Student):
        return student_affinities(network, raw, **options)
    return teacher_affinities(network, raw, OVERLAPPING, **options)


def greys(*shape):
    """Random grey values."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("depth", [2, 5, 10])
def test_the_student_sees_what_a_run_shows_it(student, depth):
    """Every section is predicted with the one below it, the first with the one above it."""
    raw = greys(depth, 40, 32)
    found = student_affinities(student, raw)
    mirrored = np.pad(raw, [(0, 0), (0, 8), (0, 0)], mode="reflect")
    student.eval()
    for z in range(depth):
        pair = mirrored[[z - 1 if z else 1, z]]
        expected = predicted_by(student, pair)[:, 0, :40]
        if z == 0:
            expected[0] = 0
        assert np.abs(found[:, z].astype(int) - expected).max() <= 1
    assert found.shape == (3, *raw.shape)
    assert np.ptp(found) > 100


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_networks_are_left_as_they_were(name, request):
    """Training goes on after a look at a volume as if there had been none."""
    network = request.getfixturevalue(name).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    predicted(network, greys(2, 32, 32))
    assert network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(before[name], tensor)


@pytest.mark.parametrize("shape", [(2, 20, 40), (4, 16, 32), (7, 30, 33)])
@pytest.mark.parametrize("patches", [OVERLAPPING, SINGLE])
def test_equal_embeddings_are_one_cell(teacher, shape, patches):
    """A teacher that embeds all voxels alike joins all voxels of a volume of any shape."""
    alike = Teacher(teacher.config)
    nn.init.zeros_(alike.out.weight)
    nn.init.ones_(alike.out.bias)
    affs = teacher_affinities(alike, greys(*shape), patches)
    assert affs.shape == (3, *shape)
    for axis in range(3):
        inner, first = np.split(affs[axis].swapaxes(0, axis), [1])[::-1]
        assert (inner == 255).all()
        assert not first.any()


def test_one_patch_is_what_the_network_says(teacher):
    """Of a volume as large as a patch, the affinities are the teacher's, unchanged."""
    raw = greys(*PATCH)
    found = teacher_affinities(teacher, raw, SINGLE)
    with torch.inference_mode():
        embeddings = teacher.eval()(torch.from_numpy(raw)[None] / 255)
    exact = volume_affinities(embeddings, OFFSETS[:1])[0].clamp(0, 1).numpy() * 255
    assert np.abs(found - exact).max() < 0.51
    assert np.ptp(found) > 50


def test_patches_side_by_side(teacher):
    """Without overlap each patch has its own affinities, its first planes those of the second."""
    raw = greys(8, 16, 32)
    found = teacher_affinities(teacher, raw, SINGLE)
    for half in (slice(4), slice(4, 8)):
        alone = teacher_affinities(teacher, raw[half], SINGLE)
        assert np.array_equal(found[:, half][:, 1:], alone[:, 1:])
    assert np.array_equal(found[0, 4], found[0, 5])


def test_blending_is_a_weighted_mean():
    """Where patches overlap, each counts by its weight, in whatever order they come."""
    rng = np.random.default_rng(2)
    patches, counts = [], weight((2, 4, 6))
    sums, total = np.zeros((3, 3, 8, 9)), np.zeros((3, 8, 9))
    for z, y, x in np.ndindex(2, 5, 4):
        box = (slice(z, z + 2), slice(y, y + 4), slice(x, x + 6))
        affs = rng.random((3, 2, 4, 6), dtype=np.float32)
        patches.append((box, torch.from_numpy(affs)))
        sums[:, *box] += counts.numpy() * affs
        total[box] += counts.numpy()
    found = blended(patches, (3, 8, 9), counts)
    assert np.allclose(found, sums / total, atol=1e-5)
    assert torch.allclose(found, blended(patches[::-1], (3, 8, 9), counts), atol=1e-6)


def test_the_middle_of_a_patch_counts_most():
    """Weights fall with the distance from the centre, alike along all axes, and never to 0."""
    counts = weight((5, 9, 17))
    assert counts[2, 4, 8] == 1 + 1e-6
    assert counts[0, 4, 8] == counts[2, 0, 8] == counts[2, 4, 0] == counts[2, 4, 16]
    assert counts[1, 4, 8] == pytest.approx(np.exp(-0.25 / 0.08), rel=1e-4)
    assert counts.min() >= 1e-6


@pytest.mark.parametrize(
    ("length", "patch", "stride", "margin", "begin", "count"),
    [
        (1024, 160, 80, 15, -48, 13),  # the authors' patches of AC3
        (100, 18, 10, 4, -4, 10),
        (1250, 160, 80, 15, -15, 15),  # and of CREMI
        (25, 18, 15, 4, -4, 2),
        (320, 160, 160, 0, 0, 2),
        (8, 18, 10, 4, -5, 1),
        (2, 18, 18, 0, -8, 1),
    ],
)
def test_patches_cover_an_axis(length, patch, stride, margin, begin, count):
    """Patches are as many, and begin as far outside of the volume, as the authors'."""
    found = starts(length, patch, stride, margin)
    assert (found[0], len(found)) == (begin, count)
    assert found[-1] + patch >= length + margin


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_less_precise_arithmetic_is_close(name, request):
    """With bfloat16 arithmetic, affinities are the same within a few percent."""
    network, raw = request.getfixturevalue(name), greys(3, 32, 32)
    exact = predicted(network, raw).astype(int)
    fast = predicted(network, raw, precision="bfloat16")
    assert 0 < np.abs(exact - fast).max()
    assert np.abs(exact - fast).mean() < 0.03 * 255


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", ["student", "teacher"])
def test_a_gpu_agrees_with_the_cpu(name, request):
    """A network on a GPU gives the affinities that it gives on the CPU, but for rounding."""
    network, raw = request.getfixturevalue(name), greys(5, 40, 40)
    on_cpu = predicted(network, raw).astype(int)
    on_gpu = predicted(copy.deepcopy(network).cuda(), raw)
    assert np.abs(on_cpu - on_gpu).mean() < 1
