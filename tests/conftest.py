"""What tests share, how many examples they draw, and that CI skips nothing silently."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
DATA = Path(__file__).parent / "data"
DEMO = ROOT / "pipeline" / "demo.h5"

MAY_SKIP = {"gpu", "published"}
_skipped: list[str] = []

Array = np.ndarray[Any, Any]

# Plain pytest draws few examples. `make test` loads the profile "thorough", in which the laws draw
# more and larger ones (`generated.THOROUGH`).
settings.register_profile("quick", settings.default, deadline=None)
settings.register_profile("thorough", settings.get_profile("quick"))
settings.load_profile("quick")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of EM volumes beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no EM volumes in {SHARED / 'data'}")
    return SHARED / "data"


@pytest.fixture(scope="session")
def fib25_raw() -> Array:
    """Raw of the demo volume, [32, 250, 250] uint8: isotropic FIB-SEM, 10 nm."""
    return _read(DEMO, "raw")


@pytest.fixture(scope="session")
def fib25_labels() -> Array:
    """True neurons of the demo volume, [32, 250, 250] uint32; 0 is left out of scores."""
    return _read(DEMO, "labels")


@pytest.fixture(scope="session")
def fib25_affinities() -> Array:
    """A student's affinities of a part of the demo volume, [3, z, y, x] uint8."""
    if not (DATA / "fib25_affinities.h5").is_file():
        pytest.skip("no tests/data/fib25_affinities.h5")
    return _read(DATA / "fib25_affinities.h5", "affinities")


@pytest.fixture(scope="module")
def affs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume of affinities."""
    import real_run as real

    return real.volume(tmp_path_factory.mktemp("in") / "affs.zarr", real.affinities())


@pytest.fixture(scope="module")
def whole(affs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of it, which tests only read."""
    import real_run as real

    return Path(real.segment(affs, tmp_path_factory.mktemp("out") / "o.zarr").out)


@pytest.fixture
def done(whole: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(whole, tmp_path / "o.zarr"))


@pytest.fixture(scope="session")
def pt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network of volumes of any size, which tests only read."""
    import toy_exported as toy

    path = tmp_path_factory.mktemp("exported") / "volume.pt2"
    return toy.export(path, toy.Volume(), (1, 1, 4, 8, 8), toy.FREE, toy.VOLUME)


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory, fib25_raw: Array) -> Path:
    """A small student whose answers use the whole range."""
    import real_run as real

    return real.student(tmp_path_factory.mktemp("student") / "w.safetensors", fib25_raw)


def _read(path: Path, name: str) -> Array:
    with h5py.File(path, "r") as file:
        data: Array = file[name][:]
    data.flags.writeable = False
    return data


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a test that was skipped."""
    if report.skipped and not hasattr(report, "wasxfail") and not MAY_SKIP & set(report.keywords):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a file that was skipped."""
    if report.skipped:
        _skipped.append(report.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """In CI, fail when anything but tests marked gpu or published was skipped."""
    if os.environ.get("CI") and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which skips made the run fail."""
    if os.environ.get("CI") and _skipped:
        terminalreporter.section("skipped, which CI does not accept")
        for name in _skipped:
            terminalreporter.line(name)
