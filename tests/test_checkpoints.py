"""Checkpoints of trainings that were killed, failed, or ended, and what resuming makes of them."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import torch
import toy_training as toy

from cadseg.errors import CadsegError
from cadseg.models.training.train import train

if TYPE_CHECKING:
    from pathlib import Path

LIMITED = """
import resource, signal, sys
from cadseg.pipeline import cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
cli.main()
"""


def files(folder: Path) -> dict[str, bytes]:
    """All that is in a folder, hidden files included."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """A run that is killed between checkpoints and resumed ends like an uninterrupted one."""
    changes = {"objective": toy.BOTH, "precision": "bfloat16", "steps": 18, "log_every": 1}
    config = toy.config(tmp_path, **changes, checkpoint_every=6)
    recipe = toy.written(tmp_path, **changes, checkpoint_every=6)
    train(config, tmp_path / "straight")
    folder = tmp_path / "killed"
    command = [*toy.CADSEG, "train", str(recipe), "--out", str(folder)]
    log, lines = folder / "log.csv", 0
    with subprocess.Popen(command, env=toy.environment(), stdout=subprocess.DEVNULL) as process:
        while lines < 9:
            assert process.poll() is None
            time.sleep(0.001)
            lines = log.read_text().count("\n") if log.exists() else 0
        process.send_signal(signal.SIGKILL)
    done = torch.load(folder / "state.pt", weights_only=True)["step"]
    assert 6 <= done < 18
    train(config, folder, resume=True)
    assert toy.outcome(folder) == toy.outcome(tmp_path / "straight")


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    """Going on with a finished run changes no file; beginning anew over it is refused."""
    config = toy.config(tmp_path, steps=2)
    train(config, tmp_path / "run")
    before = files(tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    with pytest.raises(CadsegError, match=r"holds a training run; go on with it by --resume"):
        train(config, tmp_path / "run")
    with pytest.raises(CadsegError, match=r"another configuration .*config\.json"):
        train(toy.config(tmp_path, steps=3), tmp_path / "run", resume=True)
    assert files(tmp_path / "run") == before


def test_nothing_to_go_on_with(tmp_path: Path) -> None:
    """A run that stopped before its first checkpoint begins anew, with or without --resume."""
    config = toy.config(tmp_path, steps=2)
    train(config, tmp_path / "straight")
    for resume in (True, False):
        folder = tmp_path / f"{resume}"
        folder.mkdir()
        (folder / "log.csv").write_text("step,slice\n1,7\n")
        train(config, folder, resume=resume)
        assert toy.outcome(folder) == toy.outcome(tmp_path / "straight")


def test_a_full_disk(tmp_path: Path) -> None:
    """A checkpoint that cannot be written leaves the last one whole, and no half files."""
    changes = {"objective": toy.ALONE, "steps": 6, "checkpoint_every": 3}
    config, recipe = toy.config(tmp_path, **changes), toy.written(tmp_path, **changes)
    train(config, tmp_path / "straight")
    folder = tmp_path / "full"
    with toy.plug(4), pytest.raises(toy.Stop):
        train(config, folder)
    before = files(folder)
    size = len(before["state.pt"])
    command = [*toy.CADSEG[:2], LIMITED, str(size - 1), "train", str(recipe)]
    result = toy.ran([*command, "--out", str(folder), "--resume"])
    assert result.returncode == 1, result.stderr
    sentence = "full cannot be written (File too large); the checkpoint of step 3 is whole"
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(folder.glob(".*")) + list(folder.glob("*.part"))
    after = files(folder)
    assert after["state.pt"] == before["state.pt"]
    train(config, folder, resume=True)
    assert toy.outcome(folder) == toy.outcome(tmp_path / "straight")
