"""How many small changes of the code do its nearest tests notice?

``python tests/benchmarks/mutants.py FOLDER --number 200``: copies the checkout into FOLDER, draws
mutants of `core/` and `workers/`, each one operator, number or truth value turned into another or
one statement left out, and runs the fast tests of the file against each. A mutant is *killed* where
they fail or do not end. Of those that survive, tests are missing, or they compute the same: read
them. Where numba keeps compiled kernels, those that may call the mutant go.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("configs", "models", "pipeline", "workers")
FOLDERS = (*PACKAGES, "core", "docs", "tests")
IMPORT = re.compile(r"^\s*(?:from|import) .*(?:\n {4,}\w+,)*", re.M)

UNSHRUNK = """
from hypothesis import Phase

settings.register_profile("once", settings.get_profile("quick"), phases=list(Phase)[:3])
settings.load_profile("once")
"""

# by the beginning of the file's name, which tests are nearest: the first row that fits
NEAREST = {
    "core/agglomeration/waterz": "waterz laws/law5_waterz kinds",
    "core/agglomeration/me": "agglomerate scores merge_tree laws/law4_cuts laws/law4_small",
    "core/agglomeration/scor": "scores agglomerate laws/keys",
    "core/agglomeration/segment": "segment_table laws/law4_small laws/law1_cutting",
    "core/agglomeration": "heap agglomerate cluster_graph laws/keys laws/in_one_block",
    "core/graph": "edges cluster_graph laws/audit laws/frozen laws/law1_cutting",
    "core/fragments": "climb heights laws/law1_cutting",
    "core/evaluation/in": "validate",
    "core/evaluation": "metrics sweep",
    "core/storage/ome": "ome volume",
    "core/storage/scratch": "agglomerate laws/law6_memory",
    "core/storage": "volume inputs files outputs shards bad_input run repair",
    "core/config": "config identity",
    "core/blocks": "blocks laws/law1_cutting",
    "core": "renaming packaging laws/law1_cutting",
    "workers/manifest": "manifest identity bad_input run",
    "workers/waterz": "kinds waterz plan laws/law6_memory",
    "workers/predict": "tiles kinds laws/law2_tiling plan",
    "workers/s": "plan kinds laws/law1_cutting identity run",
    "workers": "kinds laws/law1_cutting laws/law4_small plan run",
}

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult},
    **{ast.Div: ast.Mult, ast.Mod: ast.FloorDiv, ast.LShift: ast.RShift, ast.RShift: ast.LShift},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr},
}


@dataclass(frozen=True)
class Mutant:
    """One change of a file: the text of a node, and what takes its place."""

    file: str
    line: int
    begin: int
    end: int
    old: str
    new: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.file}:{self.line}: {' '.join(self.old.split())} -> {self.new}"


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """All mutants of a file, but for what only errors, types and decorators say."""
    text = (root / file).read_text("utf-8")
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node in _nodes(ast.parse(text)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        old = text.encode()[begin:end].decode()
        found += [Mutant(file, node.lineno, begin, end, old, new) for new in _changed(node)]
    return found


def _nodes(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """The nodes under `node` that compute something."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import):
                continue
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.expr | ast.stmt):
                yield child
            if isinstance(child, ast.AST):
                yield from _nodes(child)


def _changed(node: ast.expr | ast.stmt) -> Iterator[str]:
    """What can take the place of a node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield str(not value)
        case ast.Constant(value=int(value)):
            yield str(value + 1)
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            yield ast.unparse(ast.Compare(node.left, [_swapped(op)], node.comparators))
        case ast.BinOp(op=op) if type(op) in SWAPS:
            yield f"({ast.unparse(ast.BinOp(node.left, _swapped(op), node.right))})"
        case ast.BoolOp(op=op):
            yield f"({ast.unparse(ast.BoolOp(_swapped(op), node.values))})"
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield f"({ast.unparse(node.operand)})"
        case ast.IfExp():
            yield f"({ast.unparse(ast.IfExp(node.test, node.orelse, node.body))})"
        case ast.AugAssign(op=op) if type(op) in SWAPS:
            yield ast.unparse(ast.AugAssign(node.target, _swapped(op), node.value))
        case ast.Expr(value=ast.Call()):
            yield "pass"
        case ast.Continue():
            yield "break"
        case ast.Break():
            yield "continue"


def _swapped(op: ast.AST) -> Any:
    return SWAPS[type(op)]()


class Tree:
    """A copy of the checkout in which one file at a time is another."""

    def __init__(self, folder: Path) -> None:
        """Copy what tests need, and link the folders as the package has them."""
        self.root, self.clean = folder / "tree", folder / "core"
        links = self.root / "links" / "cadseg"
        links.mkdir(parents=True)
        for name in FOLDERS:
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copy(ROOT / "setup.cfg", self.root)
        parts = [*(self.root / "core").iterdir(), *(self.root / name for name in PACKAGES)]
        for part in parts:
            if part.name != "__pycache__":
                (links / part.name).symlink_to(part)
        with (self.root / "tests" / "conftest.py").open("a") as conftest:
            conftest.write(UNSHRUNK)

    def keep(self) -> None:
        """Remember the kernels that are compiled now."""
        shutil.rmtree(self.clean, ignore_errors=True)
        shutil.copytree(self.root / "core", self.clean)

    @contextlib.contextmanager
    def with_(self, mutant: Mutant) -> Iterator[None]:
        """The checkout with this mutant in it."""
        path = self.root / mutant.file
        clean = path.read_bytes()
        path.write_bytes(clean[: mutant.begin] + mutant.new.encode() + clean[mutant.end :])
        if b"cadseg.kernels" in clean:
            for name in self._callers(mutant.file):
                for kept in self.root.glob(f"core/**/__pycache__/{name}.*.nb?"):
                    kept.unlink()
        try:
            yield
        finally:
            path.write_bytes(clean)
            shutil.rmtree(self.root / "core")
            shutil.copytree(self.clean, self.root / "core")

    def _callers(self, file: str) -> list[str]:
        """The modules that import `file`, directly or not, and itself."""
        words = {
            path.stem: set(re.findall(r"\w+", " ".join(IMPORT.findall(path.read_text()))))
            for path in self.root.glob("core/**/*.py")
        }
        found = [Path(file).stem]
        for known in found:
            found += [name for name in words if known in words[name] and name not in found]
        return found

    def tested(self, tests: list[str], limit: float) -> bool:
        """Whether these tests pass, and end within `limit` seconds."""
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-qx", f"--basetemp={self.root}/tmp", *tests],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root / "links")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(limit) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tests_of(mutant: Mutant) -> list[str]:
    """The tests that are nearest to its file."""
    row = next(NEAREST[start] for start in NEAREST if mutant.file.startswith(start))
    parts = (name.rpartition("/") for name in row.split())
    return [f"tests/{folder}{slash}test_{name}.py" for folder, slash, name in parts]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--number", default=200, show_default=True, help="Mutants to draw.")
@click.option("--seed", default=0, show_default=True, help="Of the draw.")
@click.option("--only", multiple=True, help="Beginnings of files' names; default all.")
@click.option("--but", multiple=True, help="Beginnings of files' names to leave out.")
def main(folder: Path, number: int, seed: int, only: tuple[str, ...], but: tuple[str, ...]) -> None:
    """Draw mutants and run the nearest tests against each."""
    paths = [path for top in ("core", "workers") for path in sorted(ROOT.glob(f"{top}/**/*.py"))]
    files = [str(path.relative_to(ROOT)) for path in paths]
    files = [file for file in files if file.startswith(only or "") and not file.startswith(but)]
    every = [mutant for file in files for mutant in mutants_of(ROOT, file)]
    drawn = random.Random(seed).sample(every, min(number, len(every)))
    click.echo(f"{len(every)} mutants in {len(files)} files, {len(drawn)} drawn")
    tree = Tree(folder)
    killed = count = 0
    for tests, mutants in itertools.groupby(sorted(drawn, key=_order), key=tests_of):
        begun = time.monotonic()
        assert tree.tested(tests, 1200), f"{tests} fail without a mutant"
        limit = time.monotonic() - begun + 60
        tree.keep()
        for mutant in mutants:
            begun = time.monotonic()
            with tree.with_(mutant):
                lives = tree.tested(tests, limit)
            killed, count = killed + (not lives), count + 1
            how = "SURVIVED" if lives else "killed"
            click.echo(f"{killed}/{count} {how} {time.monotonic() - begun:.0f}s {mutant}")


def _order(mutant: Mutant) -> tuple[object, ...]:
    return tests_of(mutant), mutant.file, mutant.begin


if __name__ == "__main__":
    main()
