"""What a training run tells: losses and scores as tables, for TensorBoard, and on the terminal.

    log.csv                    step, losses (means since the last line), learning rate, speed
    validation.csv             step and scores on the held-out sections
    events.out.tfevents.*      the same figures for TensorBoard
    failed-000123-0.json       if a loss or a weight was not a number: the step, and where its crops
                               were cut; from the process of that rank

No numbers are decided here.
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
from cadseg.storage.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from cadseg.models.training.crops import Origin
    from cadseg.models.training.processes import Share
    from cadseg.models.training.recipe import TrainConfig
    from cadseg.models.training.validate import Validation

LOG = ("slice", "teacher", "distillation", "fgi", "learning_rate", "crops_per_second")
VALIDATION = ("loss", *SCORES)


class Journal:
    """The tables of one run, from step `first` on; lines of steps after that are dropped.

    Losses wait where they were computed until a line is due: asking a GPU for a number stops it.
    They are those of this process' crops.
    """

    def __init__(self, config: TrainConfig, folder: Path, first: int, ours: Share) -> None:
        """Begin the tables, or go on with them; only the first process writes any."""
        self._config, self._folder, self._rank, self._voi = config, folder, ours.rank, math.nan
        self._board = None
        self._waiting: list[tuple[int, Mapping[str, Tensor], Sequence[Origin]]] = []
        self._began = time.perf_counter()
        if ours.writes:
            folder.mkdir(parents=True, exist_ok=True)
            for name, columns in (("log", LOG), ("validation", VALIDATION)):
                _begin(folder / f"{name}.csv", ("step", *columns), first)
            self._board = SummaryWriter(str(folder), purge_step=first + 1)

    def losses(self, step: int, found: Mapping[str, Tensor], origins: Sequence[Origin]) -> None:
        """Note the losses of a step."""
        waiting = {name: loss.detach() for name, loss in found.items()}
        self._waiting.append((step, waiting, origins))

    def line(self, done: int, learning_rate: float, network: nn.Module) -> None:
        """Write the means of the losses since the last line.

        Raises:
            CadsegError: one of them, or a weight of `network`, is not a number; a file then says
                which crops it came from.
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

    def validation(self, done: int, found: Validation) -> bool:
        """Write scores on the held-out sections; true if VOI was never lower."""
        scores = dict(zip(SCORES, found.best.row, strict=True))
        self._voi = float(_rounded(scores["voi_sum"]))
        self._write("validation", done, scores | {"loss": found.loss})
        self._began = time.perf_counter()
        with (self._folder / "validation.csv").open(newline="") as file:
            return self._voi <= min(float(row["voi_sum"]) for row in csv.DictReader(file))

    def close(self) -> None:
        """Finish what is being written."""
        if self._board is not None:
            self._board.close()

    def _means(self) -> dict[str, float]:
        columns = defaultdict(list)
        for step, found, origins in self._waiting:
            row = dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))
            if not all(map(math.isfinite, row.values())):
                self._fail("a loss", step, found, origins)
            for name, loss in row.items():
                columns[name].append(loss)
        return {name: math.fsum(column) / len(column) for name, column in columns.items()}

    def _fail(
        self, what: str, step: int, found: Mapping[str, Tensor], origins: Sequence[Origin]
    ) -> None:
        path = self._folder / f"failed-{step:06d}-{self._rank}.json"
        losses = {name: str(float(loss)) for name, loss in found.items()}
        crops = [asdict(origin) for origin in origins]
        path.write_text(json.dumps({"step": step, "losses": losses, "crops": crops}, indent=1))
        broken = ", ".join(f"{name} {loss}" for name, loss in losses.items())
        raise CadsegError(
            f"{what} is not a number at step {step} ({broken}); {path} says where its crops were "
            f"cut: look at them, or try a smaller adam.learning_rate than "
            f"{self._config.adam.learning_rate}, or precision float32"
        )

    def _write(self, name: str, done: int, values: Mapping[str, float]) -> None:
        if self._board is None:
            return
        columns = LOG if name == "log" else VALIDATION
        cells = [_rounded(values[column]) if column in values else "" for column in columns]
        with (self._folder / f"{name}.csv").open("a", newline="") as file:
            csv.writer(file).writerow([done, *cells])
        for key, value in values.items():
            self._board.add_scalar(f"{name}/{key}", value, done)
        self._board.flush()  # a run that is killed has told all that its tables hold

    def _sentence(self, done: int, means: Mapping[str, float], speed: float) -> str:
        left = int((self._config.steps - done) * self._config.batch / speed)
        parts = [f"step {done}/{self._config.steps}"]
        parts += [f"{name} {mean:.4f}" for name, mean in means.items()]
        parts += [] if math.isnan(self._voi) else [f"VOI {self._voi:.3f}"]
        time_left = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
        return "  ".join([*parts, f"{speed:.1f} crops/s", time_left])


def _begin(path: Path, columns: Sequence[str], first: int) -> None:
    """The head of a table, and the lines that a run that goes on keeps."""
    lines = path.read_text("utf-8").splitlines()[1:] if first and path.exists() else []
    kept = [line for line in lines if int(line.partition(",")[0]) <= first]
    write_whole(path, "".join(f"{line}\n" for line in [",".join(columns), *kept]).encode())


def _rounded(value: float) -> str:
    return f"{value:.6g}"
