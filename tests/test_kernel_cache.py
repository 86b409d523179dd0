"""Compiled kernels are kept under the name of what they were compiled from, where that can be."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numba.core.dispatcher import Dispatcher

from cadseg import kernel_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

TRIANGLE = """
import numpy as np
from cadseg.agglomeration.agglomerate import agglomerate
from cadseg.agglomeration.scoring import METHODS, Scoring
from cadseg.graph.edges import Edges

ids = lambda *values: np.array(values, np.uint64)
affinities = ids(250, 100, 200)
edges = Edges(ids(1, 1, 2), ids(2, 3, 3), affinities, ids(1, 1, 1), affinities.astype(np.uint32))
rule = Scoring.of("mean", "uint8")
graph = METHODS["mean"].from_edges(edges)
merges, _ = agglomerate(graph, ids(), scoring=rule, floor=rule.at_least(0.0))
print(merges.key_u.tolist(), merges.key_v.tolist())
"""
"""Three clusters that touch each other: two merge, and their contacts to the third are united."""


def keys(package: Path, cache: Path) -> str:
    """Keys of the merges of the triangle, found by a copy of the package in a new process."""
    environment = os.environ | {"PYTHONPATH": str(package), "NUMBA_CACHE_DIR": str(cache)}
    words = [sys.executable, "-c", TRIANGLE]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_change_of_a_called_kernel_counts_at_once(tmp_path: Path) -> None:
    """A kernel in another file than its caller is broken: the next process computes with it."""
    core = Path(kernel_cache.__file__).resolve().parent
    shutil.copytree(core, tmp_path / "cadseg")
    assert keys(tmp_path, tmp_path / "kept") == "[1, 2] [2, 3]"
    rows = tmp_path / "cadseg" / "agglomeration" / "rows.py"
    text = rows.read_text()
    rows.write_text(text.replace("= max(rows.key[row]", "= min(rows.key[row]"))
    assert rows.read_text() != text
    assert keys(tmp_path, tmp_path / "kept") == "[1, 1] [2, 3]"
    assert len(list((tmp_path / "kept" / "cadseg").iterdir())) == 2


def kernels() -> Iterator[Any]:
    """All kernels of the package."""
    for package in ("agglomeration", "evaluation", "fragments", "graph", "storage"):
        folder = importlib.import_module(f"cadseg.{package}").__path__
        for module in pkgutil.iter_modules(folder, f"cadseg.{package}."):
            members = vars(importlib.import_module(module.name)).values()
            yield from (one for one in members if isinstance(one, Dispatcher))


def imported(file: str) -> dict[str, str]:
    """By name, what a file imports, and the module that it takes it from."""
    found = {}
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name: module for name, module in inner.items() if module in sys.modules}
            found |= dict.fromkeys(inner, node.module) | modules
    return found


def test_what_kernels_are_made_of_is_in_the_name() -> None:
    """Kernels, and all that they take from other files, stand in files that are hashed."""
    hashed = {str(path) for path in kernel_cache.sources()}
    found, taken = list(kernels()), set()
    for kernel in found:
        code = kernel.py_func.__code__
        assert str(Path(code.co_filename).resolve()) in hashed
        others = imported(code.co_filename)
        taken |= {others[name] for name in code.co_names if name in others}
    files = {str(Path(str(sys.modules[name].__file__)).resolve()) for name in taken}
    assert files <= hashed
    assert len(found) > 30
    assert len(files) > 5


def test_the_first_place_that_can_be_written_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user names, else the cache folder, else a private temporary one, else none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    taken = []
    for home in ("xdg", "file"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
        taken.append(kernel_cache.folder())
    private = tmp_path / "temporary" / f"cadseg-{os.getuid()}"
    assert taken == [
        str(parent / Path(str(taken[0])).name) for parent in (tmp_path / "xdg" / "cadseg", private)
    ]
    assert kernel_cache.folder(str(tmp_path / "asked")) == str(
        tmp_path / "asked" / "cadseg" / Path(str(taken[0])).name
    )
    private.chmod(0o777)
    assert kernel_cache.folder() is None


def test_old_folders_go(tmp_path: Path) -> None:
    """Kernels of other sources are kept for weeks after their last use, not for ever."""
    for name, age in {"kernels-old": kernel_cache.KEPT_DAYS + 1, "kernels-new": 1}.items():
        folder = tmp_path / "cadseg" / name
        folder.mkdir(parents=True)
        used = folder.stat().st_mtime - age * 86_400
        os.utime(folder, (used, used))
    made = kernel_cache.folder(str(tmp_path))
    assert {path.name for path in (tmp_path / "cadseg").iterdir()} == {
        "kernels-new",
        Path(str(made)).name,
    }
