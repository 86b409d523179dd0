"""The package is the folders, all of them; its parts are small, and explained."""

from __future__ import annotations

import ast
import configparser
import pkgutil
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import h5py
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("core", "models", "workers", "pipeline", "configs")
MOST_LINES, MOST_ARGUMENTS = 300, 8
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_folder_with_code_is_in_the_package() -> None:
    """setup.cfg lists exactly the folders that hold Python files; none is forgotten in a wheel."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    found = {path.parent.relative_to(ROOT).as_posix() for path in sources(*FOLDERS)}
    names = {".".join(("cadseg", *folder.split("/"))) for folder in found}
    names = {name.replace("cadseg.core", "cadseg", 1) for name in names}
    assert listed == names


def test_package_data_is_found() -> None:
    """The typing mark, the configs and the demo volume are where the package looks for them."""
    package = resources.files("cadseg")
    assert package.joinpath("py.typed").is_file()
    assert package.joinpath("configs", "ssem.yaml").is_file()
    data = package.joinpath("pipeline", "demo.h5")
    with resources.as_file(data) as path, h5py.File(path) as demo:
        assert demo["raw"].shape == demo["labels"].shape == (32, 250, 250)
        assert "CC BY" in demo.attrs["license"]
        assert "Janelia" in demo.attrs["credit"]


@pytest.mark.parametrize("path", sources(*FOLDERS), ids=name)
def test_every_public_thing_is_explained(path: Path) -> None:
    """Every module, public class and public function has a docstring."""
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree) or not tree.body, f"{path.name} has no docstring"
    assert [d.name for d in _public(tree) if not ast.get_docstring(d)] == []


@pytest.mark.parametrize("path", sources("tests"), ids=name)
def test_every_test_states_its_law(path: Path) -> None:
    """Every test has a docstring that begins with one sentence, on one line."""
    tree = ast.parse(path.read_text("utf-8"))
    tests = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name[:5] == "test_"]
    first = {test.name: (ast.get_docstring(test) or "").partition("\n")[0] for test in tests}
    assert [name for name, line in first.items() if not line.endswith(".")] == []


@pytest.mark.parametrize("path", sources("tests", "docs"), ids=name)
def test_what_is_imported_is_there(path: Path) -> None:
    """Every name that a test, a benchmark or a figure imports from the package exists."""
    imports = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if _of_cadseg(node)]
    for node in imports:
        for alias in node.names:
            assert pkgutil.resolve_name(f"{node.module}.{alias.name}") is not None


def _of_cadseg(node: ast.AST) -> TypeGuard[ast.ImportFrom]:
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cadseg")


def test_files_are_short() -> None:
    """No source file has more than 300 lines: one that has holds two nouns."""
    lines = {name(path): path.read_text("utf-8").count("\n") for path in sources(*FOLDERS)}
    found = {path for path, count in lines.items() if count > MOST_LINES}
    assert found == set()


def test_functions_have_few_arguments() -> None:
    """No function has more than 8 arguments, self and cls not counted."""
    found = {
        f"{name(path)} {node.name}"
        for path in sources(*FOLDERS)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and _count(node.args) > MOST_ARGUMENTS
    }
    assert found == set()


def _count(arguments: ast.arguments) -> int:
    """Arguments of a function, without self and cls; ``*args`` and ``**kwargs`` count one each."""
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    rest = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return len([a for a in named if a.arg not in ("self", "cls")]) + len(rest)


LOCAL = {"core/storage/local_files.py", "core/storage/local_batch.py"}
# What may touch a disk beside them: nothing of it is a run's bytes.
OTHER_FILES = {
    "core/agglomeration/waterz.py": "what its C++ prints goes to /dev/null",
    "core/config.py": "the user's YAML file",
    "core/kernel_cache.py": "compiled kernels, in the user's cache folder",
    "core/storage/damage.py": "an input's chunks, one of which cannot be read",
    "core/storage/scratch.py": "arrays beyond the memory, in local files without a name",
    "core/storage/volume.py": "an input that is a file, for the error about it",
    "pipeline/execution/attempt.py": "a local log, to which a process appends",
    "pipeline/execution/driver.py": "the server's local log",
    "pipeline/execution/worker.py": "a local log, to which a process appends",
    "pipeline/execution/watch.py": "the last line of the server's local log",
    "pipeline/sweep.py": "the user's picture and table",
    "pipeline/execution/preload.py": "a run in a temporary folder",
}
OS_CALLS = {
    *("access", "link", "listdir", "makedirs", "mkdir", "open", "pread", "remove", "rename"),
    *("replace", "rmdir", "scandir", "stat", "statvfs", "symlink", "unlink", "utime", "walk"),
}
PATH_CALLS = {
    *("exists", "glob", "hardlink_to", "is_dir", "is_file", "iterdir", "mkdir", "read_bytes"),
    *("read_text", "rename", "rglob", "rmdir", "stat", "symlink_to", "touch", "unlink"),
    *("write_bytes", "write_text", "fromfile", "tofile"),
}


def test_a_runs_bytes_have_one_door() -> None:
    """Only storage's local files touch a disk, but for the listed files, each for its reason."""
    found = {path.relative_to(ROOT).as_posix() for path in sources("core", "workers", "pipeline")}
    touching = {path for path in found if _touches_a_disk((ROOT / path).read_text("utf-8"))}
    assert touching - LOCAL == set(OTHER_FILES)


@pytest.mark.parametrize(
    "code",
    [
        "os.rename(a, b)",
        "shutil.rmtree(a)",
        "open(a)",
        "a.open('ab')",
        "a.replace(b)",
        "a.unlink()",
    ],
)
def test_a_second_door_would_be_seen(code: str) -> None:
    """Each way to touch a file is found, and what only looks like one is not."""
    assert _touches_a_disk(code)
    assert not _touches_a_disk("a.replace('.', ''); Store.open(a); files.remove(a); zarr.open(a)")


def _touches_a_disk(source: str) -> bool:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return any(_is_of_a_file(call) for call in calls)


def _is_of_a_file(call: ast.Call) -> bool:
    """Whether a call is of `open`, of `shutil`, or a function of `os` or `Path` on files."""
    if isinstance(call.func, ast.Name):
        return call.func.id == "open"
    if not isinstance(call.func, ast.Attribute):
        return False
    owner, name = ast.unparse(call.func.value), call.func.attr
    if owner in ("os", "shutil", "tempfile"):
        return owner != "os" or name in OS_CALLS
    if name == "replace":  # of strings, it has two arguments
        return len(call.args) == 1 and not call.keywords and owner != "dataclasses"
    if name == "open":
        return bool(call.args) and isinstance(call.args[0], ast.Constant)
    return name in PATH_CALLS


def _public(node: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Public definitions of a module, methods of public classes included."""
    for child in node.body:
        if isinstance(child, Definition) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from _public(child)
