"""What the student costs, and what the teacher would, for the affinities of one volume.

    python tests/benchmarks/cost.py [--device cpu|cuda] [--precision float32|bfloat16]
        [--sections N] [--size N]

The teacher twice: in the authors' overlapping patches, and in patches side by side, which is the
least that it can cost. All with fresh weights and grey noise, which cost as much as others. On a
CPU, seconds are those that one core works, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cadseg.models import memory
from cadseg.models.student import Student, StudentConfig
from cadseg.models.teacher import Teacher, TeacherConfig
from cadseg.models.whole_volume import (
    AUTHORS,
    Patches,
    student_affinities,
    teacher_affinities,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cadseg.arrays import Bytes
    from cadseg.models.network import Precision

LONG_ENOUGH = 10
"""Runs are repeated until they took so many seconds together; the fastest counts."""


def main() -> None:
    """Measure, and print a table."""
    options = arguments()
    memory.keep_freed()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    student = Student(StudentConfig()).to(device)
    teacher = Teacher(TeacherConfig()).to(device)
    precision: Precision = options.precision
    ways = {
        "student": (student, partial(student_affinities, student, precision=precision)),
        "teacher, patches side by side": (
            teacher,
            partial(
                teacher_affinities,
                teacher,
                patches=Patches(AUTHORS.size, stride=AUTHORS.size, margin=(0, 0, 0)),
                precision=precision,
            ),
        ),
        "teacher, patches as the authors lay them": (
            teacher,
            partial(teacher_affinities, teacher, patches=AUTHORS, precision=precision),
        ),
    }
    shape = (options.sections, options.size, options.size)
    print(
        f"{device.type}, {precision}, {' x '.join(map(str, shape))} voxels; {torch.__version__}\n"
    )
    print("| | parameters | MAC per voxel | seconds | Mvoxel/s | MACs | time |")
    print("|---|---|---|---|---|---|---|")
    first: tuple[float, float] | None = None
    for name, (network, predict) in ways.items():
        macs, seconds = cost(predict, shape, device)
        first = first or (macs, seconds)
        parameters, voxels = sum(p.numel() for p in network.parameters()), np.prod(shape)
        speed, ratios = voxels / seconds / 1e6, (macs / first[0], seconds / first[1])
        print(
            f"| {name} | {parameters:,} | {macs / voxels:,.0f} | {seconds:.3g} "
            f"| {speed:.3g} | {ratios[0]:.1f} x | {ratios[1]:.1f} x |",
            flush=True,
        )


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--sections", type=int, default=18)
    parser.add_argument("--size", type=int, default=320)
    return parser.parse_args()


def cost(
    predict: Callable[[Bytes], Bytes], shape: tuple[int, int, int], device: torch.device
) -> tuple[int, float]:
    """Multiplications of one run, and seconds of the fastest.

    Seconds include the way of the volume to the device and that of the affinities back. The first
    run warms up, and counts multiplications, which takes no time beside them.
    """
    raw = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: list[float] = []
    counter = FlopCounterMode(display=False)
    while sum(seconds) < LONG_ENOUGH:
        with nullcontext() if seconds else counter:
            started = clock()
            predict(raw)  # returns when the affinities are back
            seconds.append(clock() - started)
    return counter.get_total_flops() // 2, min(seconds)


if __name__ == "__main__":
    main()
