"""The docs speak of what is there: files, tests, modules, links; and figures show what is true."""

from __future__ import annotations

import base64
import configparser
import io
import pkgutil
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as parquet
import pytest
import real_run as real
from click.testing import CliRunner
from figures import FIGURES, IMAGES
from PIL import Image

import cadseg
from cadseg.blocks import Roi
from cadseg.storage.volume import open_volume
from cadseg.workers.store import Store

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    page
    for folder in (".", "docs", "models", "tests/benchmarks")
    for page in (ROOT / folder).glob("*.md")
)
FOLDERS = "core|models|workers|pipeline|configs|tests|docs"
TOLERANCE = 0.5  # points, between two versions of matplotlib


pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pages
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file finds it, and every link to a heading finds that."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name} links to {target}"
        assert not heading or heading in headings(path), f"{page.name} links to {target}"


@pages
def test_files_and_tests_that_are_named_are_there(page: Path) -> None:
    """Every file, folder and test of the repository that a page names in code font exists."""
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)(?:::(\w+))?`", page.read_text("utf-8"))
    for name, test in named:
        if "NAME" in name:
            continue
        assert (ROOT / name).exists(), f"{page.name} names {name}"
        assert not test or f"def {test}(" in (ROOT / name).read_text("utf-8")


@pages
def test_modules_that_are_named_can_be_imported(page: Path) -> None:
    """Every `cadseg.x.y` in code font, and every import of it in an example, is there."""
    text = page.read_text("utf-8")
    names = re.findall(r"`(cadseg(?:\.[a-z]\w*)+)`", text)
    for module, things in re.findall(r"^from (cadseg[\w.]*) import ([\w, ]+)$", text, re.M):
        names += [f"{module}.{thing.strip()}" for thing in things.split(",")]
    for name in names:
        assert pkgutil.resolve_name(name) is not None


def test_every_figure_is_shown() -> None:
    """The pictures are those that the script draws, and each stands in a page."""
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert {path.stem for path in IMAGES.iterdir()} == set(FIGURES)
    assert [name for name in FIGURES if f"(images/{name}.svg)" not in text] == []


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_what_the_script_draws(name: str, tmp_path: Path) -> None:
    """Drawn again, a figure has the same words, lines and voxels; run docs/figures.py if not."""
    FIGURES[name]().save(tmp_path / "again.svg")
    FIGURES[name]().save(tmp_path / "twice.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "twice.svg").read_bytes()
    words, lines, voxels = content(IMAGES / f"{name}.svg")
    words_now, lines_now, voxels_now = content(tmp_path / "again.svg")
    assert words_now == words
    assert [line.shape for line in lines_now] == [line.shape for line in lines]
    assert all(np.allclose(*pair, atol=TOLERANCE) for pair in zip(lines, lines_now, strict=True))
    assert all(np.array_equal(*pair) for pair in zip(voxels, voxels_now, strict=True))


def test_the_tree_names_every_folder() -> None:
    """The tree in the package's docstring has a line for every folder with code, and no other."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = {name.rpartition(".")[2] for name in setup["options"]["packages"].split()}
    drawn = set(re.findall(r"^ {4,6}(\w+) {2,}\S", cadseg.__doc__ or "", re.M))
    files = {path.stem for path in (ROOT / "core").glob("[a-z]*.py")}
    assert packages - {"cadseg", "cli"} <= drawn
    assert drawn <= packages | files | {"core"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run in which every kind of step had something to do."""
    folder = tmp_path_factory.mktemp("docs")
    volume = real.volume(folder / "affs.zarr", real.affinities())
    levels = "block_shape=[3, 11, 12]", "segment.min_voxels=9"
    return Path(real.segment(volume, folder / "out", *levels).out)


def test_tables_are_as_the_page_says(finished: Path) -> None:
    """Docs and disk know the same tables, with the same columns in the same order."""
    text = (ROOT / "docs" / "on-disk.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]* \| `[^|]*\| ([^|]*) \|", text, re.M)
    written = {name: columns.split(", ") for name, columns in rows}
    rows = re.findall(r"^\| ([\w, ]+) \| [ui]64 \|", text, re.M)
    written["segments"] = written["parts"] = ", ".join(rows).split(", ")
    store = Store.open(finished)
    found = {}
    for key, step in store.producers.items():
        if not isinstance(key, str):
            cell = next(store.grid.cells(step.level))
            found[key[0]] = [*store.read_table(*key, cell)]
    for path in [*finished.glob("graph/*/*/*/*.parquet"), *finished.glob("segments/*/*/*.parquet")]:
        found[path.parents[2].name] = parquet.read_schema(path).names
    assert found == written


def test_the_example_of_an_output_format_works(finished: Path, tmp_path: Path) -> None:
    """The command that docs/extending.md shows writes the segmentation of a run, voxel by voxel."""
    text = (ROOT / "docs" / "extending.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    module: dict[str, Any] = {"__name__": "export"}
    exec(example, module)
    words = [str(finished), str(tmp_path / "out.npy")]
    assert CliRunner().invoke(module["command"], words, catch_exceptions=False).exit_code == 0
    segmentation = open_volume(str(finished / "segmentation" / "0"))
    whole = segmentation.read(Roi((0, 0, 0), segmentation.extent))
    assert np.unique(whole).size > 1
    assert np.array_equal(np.load(tmp_path / "out.npy"), whole)


def headings(page: Path) -> set[str]:
    """What links call the headings of a page."""
    found = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def content(path: Path) -> tuple[list[str], list[Any], list[Any]]:
    """The words, the coordinates of lines, and the voxels of pictures in an SVG file."""
    words, lines, voxels = [], [], []
    for element in ElementTree.parse(path).getroot().iter():
        kind = element.tag.rpartition("}")[2]
        if kind == "text":
            words.append("".join(element.itertext()))
        elif kind == "path":
            numbers = re.findall(r"-?\d+\.?\d*", element.attrib["d"])
            lines.append(np.array([float(number) for number in numbers]))
        elif kind == "image":
            data = next(v for key, v in element.attrib.items() if key.endswith("href"))
            png = base64.b64decode(data.partition(",")[2])
            voxels.append(np.asarray(Image.open(io.BytesIO(png))))
    return words, lines, voxels
