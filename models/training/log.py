"""The log of a training run: losses and scores as tables, for TensorBoard, and on the terminal.

    log.csv                    step, losses (means since the last line), learning rate, speed
    validation.csv             step and scores on the held-out volumes
    events.out.tfevents.*      the same figures for TensorBoard
    failed-000123-0.json       if a loss or a weight is not finite: the step and where its crops
                               were cut; the last number is the rank of the process

A resumed run continues these tables.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch.utils.tensorboard import SummaryWriter

from cadseg.errors import CadsegError
from cadseg.evaluation.curve import SCORES
from cadseg.storage.local_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from cadseg.models.training.crops import Origin
    from cadseg.models.training.processes import Process
    from cadseg.models.training.recipe import TrainConfig
    from cadseg.models.training.validate import Validation

LOG_COLUMNS = ("slice", "teacher", "distillation", "fgi", "learning_rate", "crops_per_second")
VALIDATION_COLUMNS = ("loss", *SCORES)


class TrainingLog:
    """The log of one run, resumed after step `first`: lines of later steps are deleted.

    Losses are those of this process' crops. They stay on the device until a line is written, since
    copying a number from a GPU waits for all its work.
    """

    def __init__(self, config: TrainConfig, folder: Path, first: int, process: Process) -> None:
        """Create the tables, or keep their lines up to `first`; only rank 0 writes."""
        self._config, self._folder, self._rank, self._voi = config, folder, process.rank, math.nan
        self._board = None
        self._waiting: list[tuple[int, Mapping[str, Tensor], Sequence[Origin]]] = []
        self._began = time.perf_counter()
        if process.writes:
            folder.mkdir(parents=True, exist_ok=True)
            for name, columns in (("log", LOG_COLUMNS), ("validation", VALIDATION_COLUMNS)):
                _start_table(folder / f"{name}.csv", ("step", *columns), first)
            self._board = SummaryWriter(str(folder), purge_step=first + 1)

    def add_losses(
        self, step: int, losses: Mapping[str, Tensor], origins: Sequence[Origin]
    ) -> None:
        """Keep the losses of a step for the next line."""
        detached = {name: loss.detach() for name, loss in losses.items()}
        self._waiting.append((step, detached, origins))

    def write_line(self, done: int, learning_rate: float, network: nn.Module) -> None:
        """Write the means of the losses since the last line.

        Raises:
            CadsegError: one of them, or a weight of `network`, is not finite; a file then names
                the crops.
        """
        means = self._means()
        if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
            self._fail("a weight", *self._waiting[-1])
        crops = len(self._waiting) * self._config.batch
        speed = crops / (time.perf_counter() - self._began)
        self._waiting, self._began = [], time.perf_counter()
        values = {"learning_rate": learning_rate, "crops_per_second": speed}
        self._write("log", done, means | values)
        if self._board is not None:
            print(self._sentence(done, means, speed), flush=True)

    def write_validation(self, done: int, validation: Validation) -> bool:
        """Write scores on the held-out volumes; true if VOI was never lower."""
        scores = dict(zip(SCORES, validation.best.row, strict=True))
        self._voi = float(_rounded(scores["voi_sum"]))
        self._write("validation", done, scores | {"loss": validation.loss})
        self._began = time.perf_counter()
        with (self._folder / "validation.csv").open(newline="") as file:
            return self._voi <= min(float(row["voi_sum"]) for row in csv.DictReader(file))

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._board is not None:
            self._board.close()

    def _means(self) -> dict[str, float]:
        columns = defaultdict(list)
        for step, losses, origins in self._waiting:
            row = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
            if not all(map(math.isfinite, row.values())):
                self._fail("a loss", step, losses, origins)
            for name, loss in row.items():
                columns[name].append(loss)
        return {name: math.fsum(column) / len(column) for name, column in columns.items()}

    def _fail(
        self, what: str, step: int, losses: Mapping[str, Tensor], origins: Sequence[Origin]
    ) -> None:
        path = self._folder / f"failed-{step:06d}-{self._rank}.json"
        values = {name: str(float(loss)) for name, loss in losses.items()}
        crops = [asdict(origin) for origin in origins]
        path.write_text(json.dumps({"step": step, "losses": values, "crops": crops}, indent=1))
        broken = ", ".join(f"{name} {value}" for name, value in values.items())
        raise CadsegError(
            f"{what} is not a number at step {step} ({broken}); {path} says where its crops were "
            f"cut: look at them, or try a smaller adam.learning_rate than "
            f"{self._config.adam.learning_rate}, or precision float32"
        )

    def _write(self, name: str, done: int, values: Mapping[str, float]) -> None:
        if self._board is None:
            return
        columns = LOG_COLUMNS if name == "log" else VALIDATION_COLUMNS
        cells = [_rounded(values[column]) if column in values else "" for column in columns]
        with (self._folder / f"{name}.csv").open("a", newline="") as file:
            csv.writer(file).writerow([done, *cells])
        for key, value in values.items():
            self._board.add_scalar(f"{name}/{key}", value, done)
        self._board.flush()  # so that TensorBoard shows as much as the tables if the run is killed

    def _sentence(self, done: int, means: Mapping[str, float], speed: float) -> str:
        left = int((self._config.steps - done) * self._config.batch / speed)
        parts = [f"step {done}/{self._config.steps}"]
        parts += [f"{name} {mean:.4f}" for name, mean in means.items()]
        parts += [] if math.isnan(self._voi) else [f"VOI {self._voi:.3f}"]
        time_left = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
        return "  ".join([*parts, f"{speed:.1f} crops/s", time_left])


def _start_table(path: Path, columns: Sequence[str], first: int) -> None:
    """Write a table's header, after it the existing lines up to step `first`."""
    lines = path.read_text("utf-8").splitlines()[1:] if first and path.exists() else []
    kept = [line for line in lines if int(line.partition(",")[0]) <= first]
    write_whole(path, "".join(f"{line}\n" for line in [",".join(columns), *kept]).encode())


def _rounded(value: float) -> str:
    return f"{value:.6g}"
