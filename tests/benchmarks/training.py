"""Crops per second of training, against the loop that one would write down first.

    python tests/benchmarks/training.py [--device cuda] [--config train-ssem] [--set KEY=VALUE ...]
        [--steps N] [--turns N]

The plain loop takes the same crops, networks and losses, in float32 and eagerly: every section pair
goes through the student by itself, crops are made when they are needed, layers and optimiser are as
PyTorch gives them, and the loss is asked for in every step. The two take turns, each time in a
process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch.nn import functional as F

from cadseg.models import memory
from cadseg.models.affinity import OFFSETS
from cadseg.models.training import recipe
from cadseg.models.training.batches import batch_of, batches
from cadseg.models.training.crops import Crops
from cadseg.models.training.losses import distillation_loss, slice_loss, teacher_loss
from cadseg.models.training.objective import Objective
from cadseg.models.training.processes import process_group
from cadseg.models.training.targets import targets_of
from cadseg.models.training.train import optimiser_of


def main() -> None:
    """Print crops per second of both, and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--config", default="train-ssem")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    config = recipe.load(asked.config, [f"device={asked.device}", *asked.sets])
    found: dict[str, list[float]] = {name: [] for name in LOOPS}
    fresh = {"max_workers": 1, "mp_context": get_context("spawn"), "max_tasks_per_child": 1}
    with ProcessPoolExecutor(**fresh) as pool:
        for _ in range(asked.turns):
            for name, speeds in found.items():
                speeds.append(pool.submit(_speed, name, asked.steps, config).result())
    for name, speeds in found.items():
        print(f"{name}: {statistics.median(speeds):.2f} crops/s {[f'{s:.2f}' for s in speeds]}")
    plain, quick = (statistics.median(speeds) for speeds in found.values())
    print(f"ratio: {quick / plain:.2f}")


def _speed(name, steps, config):  # type: ignore[no-untyped-def]
    """Crops per second over some steps, after as many to warm up."""
    torch.set_num_threads(config.threads)
    with process_group(config.device, config.batch) as process:
        loop = LOOPS[name](config, process)
        for _ in range(steps):
            next(loop)
        _wait(config)
        began = time.perf_counter()
        for _ in range(steps):
            next(loop)
        _wait(config)
        return steps * config.batch / (time.perf_counter() - began)


def _wait(config):  # type: ignore[no-untyped-def]
    if config.device == "cuda":
        torch.cuda.synchronize()


def _quick(config, process):  # type: ignore[no-untyped-def]
    """Steps as `cadseg.models.training.train` takes them."""
    memory.keep_freed()
    objective = Objective(config.objective, config.precision).to(process.device).train()
    adam = optimiser_of(objective, config)
    if config.compile:
        objective.compile_networks()
    for _, batch in batches(config, Crops(config.data), 0, process):
        together = config.objective.distillation != "off"
        losses = objective(batch.raw_BDYX, batch.labels_BDYX, together=together)
        adam.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        adam.step()
        yield


def _plain(config, process):  # type: ignore[no-untyped-def]
    """Steps as one would write them first."""
    crops = Crops(config.data)
    objective = Objective(config.objective, "float32").to(process.device).train()
    objective.to(memory_format=torch.contiguous_format)
    student, teacher = objective.student, objective.teacher
    adam = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], foreach=False)
    for step in itertools.count():
        raw, labels, _ = batch_of(config, crops, step, process)
        targets = targets_of(labels)
        loss = torch.zeros((), device=raw.device)
        if student is not None:
            unfolded = raw.unfold(1, 2, 1).permute(1, 0, 4, 2, 3)
            pairs = [_affinities(*student(pair)) for pair in unfolded]
            affs = torch.stack(pairs, 1)
            loss = loss + slice_loss(affs, targets)
        if teacher is not None:
            with torch.set_grad_enabled(config.objective.teacher.learns):
                cosines = _cosines(teacher(raw))
            if config.objective.teacher.learns:
                loss = loss + teacher_loss(cosines, targets)
            if config.objective.distillation != "off":
                loss = loss + distillation_loss(affs, cosines.detach(), targets)
        adam.zero_grad()
        loss.backward()
        adam.step()
        loss.item()
        yield


def _affinities(lower, upper):  # type: ignore[no-untyped-def]
    """Affinities of a section pair, as one would write them first."""
    u, v = F.normalize(lower, dim=1), F.normalize(upper, dim=1)
    z = (u * v).sum(1)
    y = F.pad((v[:, :, 1:] * v[:, :, :-1]).sum(1), (0, 0, 1, 0))
    x = F.pad((v[..., 1:] * v[..., :-1]).sum(1), (1, 0))
    return torch.stack([z, y, x], 1).clamp(0, 1)


def _cosines(embeddings):  # type: ignore[no-untyped-def]
    """Cosines over all distances, likewise."""
    e = F.normalize(embeddings, dim=1)
    channels = []
    for axis, s in ((axis, s) for triple in OFFSETS for axis, s in enumerate(triple)):
        length = max(0, e.shape[axis + 2] - s)
        upper, lower = (
            e.narrow(axis + 2, e.shape[axis + 2] - length, length),
            e.narrow(axis + 2, 0, length),
        )
        missing = [0, 0] * (2 - axis) + [e.shape[axis + 2] - length, 0]
        channels.append(F.pad((upper * lower).sum(1), missing))
    return torch.stack(channels, 1)


LOOPS = {"plain": _plain, "cadseg": _quick}


if __name__ == "__main__":
    main()
