"""Configs, in files and on the command line, and the words of commands."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cadseg import config as configs
from cadseg.models.training import recipe
from cadseg.storage.files import resolved
from fuzzing import mutations
from fuzzing.case import Case

if TYPE_CHECKING:
    from random import Random

    from cadseg.pipeline.prepare import PreparedRun

CONFIGS = Path(__file__).parents[2] / "configs"

TEXTS = (
    "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
    + "".join(
        f"{name}: &{name} [{', '.join([f'*{above}'] * 9)}]\n"
        for above, name in zip("bcdefgh", "cdefghi", strict=True)
    ),
    "a: &a [*a]",
    "&a {a: *a}",
    "[" * 500,
    "{a: " * 500,
    "a: " + "1" * 10_000,
    "a: 2020-99-99",
    "a: !!binary '*'",
    "a: !!int x",
    "a: !!timestamp x",
    "a: !!bool x",
    "a: !!python/object/apply:os.system [false]",
    "? [a]\n: b",
    "? {a: b}\n: c",
    "a: b\n---\na: c",
    "<<: 5",
    "<<: [{a: 1}, 5]",
    "a: 0b_",
    "a: 1:99:99",
    "a: .inf",
    "\ufeffa: 1",
    "%YAML 9.9\n---\na: 1",
)


def config_file(random: Random, folder: Path) -> Case:
    """A config of a run, in a file."""
    sound = (CONFIGS / f"{random.choice(('ssem', 'fibsem'))}.yaml").read_bytes()
    data = spoilt_yaml(random, sound)
    path = folder / "case" / "config.yaml"
    path.write_bytes(data)

    def check(_: object) -> None:
        taken, asked = configs.load(str(path)), yaml.safe_load(data)
        assert same(taken.model_dump(), asked)

    words = ("plan", folder / "inputs/affs.zarr", "--affinities", "--config", path)
    return Case(words, check, data)


def recipe_file(random: Random, folder: Path) -> Case:
    """A config of a training, in a file."""
    data = spoilt_yaml(random, (CONFIGS / "train-ssem.yaml").read_bytes())
    path = folder / "case" / "config.yaml"
    path.write_bytes(data)

    def check(_: object) -> None:
        assert same(recipe.load(str(path)).model_dump(), yaml.safe_load(data))

    return Case(lambda: recipe.load(str(path)), check, data)


def spoilt_yaml(random: Random, sound: bytes) -> bytes:
    how = random.random()
    if how < 0.6:
        tree = mutations.in_tree(random, yaml.safe_load(sound))
        with contextlib.suppress(yaml.YAMLError):
            return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")
    if how < 0.9:
        return mutations.in_bytes(random, sound)
    return random.choice(TEXTS).encode() + random.choice((b"", sound))


VALUES = (
    *("", " ", "null", "~", "true", "0", "-0", "1", "-1", "2", "0.5", "5e-05", "0.00005", "1e400"),
    *(
        "nan",
        "inf",
        "-inf",
        ".nan",
        ".inf",
        "0x10",
        "1_000",
        "1:2",
        "٣",
        "½",
        "1" * 5000,
        "a" * 5000,
    ),
    *("[1, 2, 3]", "[0, 0, 0]", "[[0, 1], [0, 1], [0, 1]]", "[", "]", "{a: b}", "&a [*a]", "*a"),
    *("@m", "%", "`", "|", ">", "- a", "? a", "!!int x", "!!python/name:os.system", "2020-99-99"),
    *("a: b", "cells #2.zarr", "a\nb", "a\0b", "\udcff", "🧠", "../x", "/", "//", ".", "..", "~/x"),
    *("/proc/x", "/dev/null", "/dev/zero", "s3://", "s3://b/x", "http://127.0.0.1:1/x", "file://"),
    *(
        "file:///x",
        "zip://a::b",
        "memory://x",
        "://",
        ":",
        "::",
        "abc://x",
        "x.h5",
        "x.h5:",
        ":x.h5",
    ),
    *("x.h5:raw:a", "cpu", "mean", "waterz", "--", "-", "--help", "=", "a=b", "a.b=c", "\u202e"),
)
BOXES = (
    "0:1",
    "0:6",
    "-1:3",
    "3:3",
    "3:2",
    "0:1:2",
    ":",
    "0:",
    ":1",
    "a:b",
    "0:9223372036854775808",
)


def set_value(random: Random, folder: Path) -> Case:
    """One or two keys changed by ``--set``."""
    tree = yaml.safe_load((CONFIGS / "ssem.yaml").read_bytes())
    words, expected = [], tree
    for _ in range(random.choice((1, 1, 2))):
        section, key = random.choice(
            [("", "block_shape")]
            + [(s, k) for s in tree if isinstance(tree[s], dict) for k in tree[s]]
        )
        value = _yaml_value(random, (tree[section] if section else tree)[key])
        dotted = f"{section}.{key}".strip(".")
        if random.random() < 0.1:
            dotted = mutations.in_bytes(random, dotted.encode()).decode("utf-8", "surrogateescape")
        words += [f"--set={dotted}={value}"]
        with contextlib.suppress(Exception):  # of what is refused
            expected = _with(expected, dotted, yaml.safe_load(value))
    box = (*("plan", folder / "inputs/affs.zarr", "--affinities", "--config=ssem"), *words)

    def check(_: object) -> None:
        sets = [word.removeprefix("--set=") for word in words]
        assert same(configs.load("ssem", sets).model_dump(), expected)

    return Case(box, check, words)


def _yaml_value(random: Random, value: Any) -> str:
    if random.random() < 0.4:
        return random.choice((*VALUES, *TEXTS))
    return yaml.safe_dump(mutations.in_tree(random, value), default_flow_style=True)


def _with(tree: Any, dotted: str, value: Any) -> Any:
    key, _, below = dotted.partition(".")
    return tree | {key: _with(tree[key], below, value) if below else value}


OPTIONS = {
    **dict.fromkeys(("--mask", "--weights", "--device", "--until", "--out", "--config"), "text"),
    **dict.fromkeys(("--threshold", "--workers", "--timeout"), "number"),
    **{"--roi": "box", "--voxel-size": "three", "--tracking": "text"},
}


def plan_words(random: Random, folder: Path) -> Case:
    """Options of a run, and the volume's address."""
    source = random.choice(("affs", "raw"))
    address: object = folder / f"inputs/{source}.zarr"
    if random.random() < 0.15:
        address = random.choice((*VALUES, f"{address}/", f"file://{address}", f"{address}/x"))
    asked = {}
    for option in random.sample(list(OPTIONS), random.choice((1, 1, 2, 3))):
        asked[option] = _option(random, OPTIONS[option], folder)
    asked.setdefault("--weights", str(folder / "inputs/networks/tiny.safetensors"))
    flags = [f for f in ("--serial", "--restart", "--discard-affinities") if random.random() < 0.1]
    flags += ["--affinities"] if source == "affs" else []
    words = ("plan", address, *(f"{option}={value}" for option, value in asked.items()), *flags)

    def check(run: PreparedRun | None) -> None:
        if run is None:  # --help
            return
        config = run.store.config
        taken = {
            "--mask": config.volume.mask,
            "--weights": config.predict.weights,
            "--device": config.predict.device,
            "--until": run.until,
            "--out": run.out,
            "--threshold": config.segment.threshold,
            "--roi": config.volume.roi,
            "--voxel-size": config.volume.voxel_size,
        }
        for option in asked.keys() & taken.keys():
            assert same(taken[option], _meant(option, asked[option])), (option, taken[option])

    return Case(words, check, words)


def _meant(option: str, text: str) -> Any:
    if option == "--mask":
        return resolved(text)
    if option == "--roi":
        return [[int(n) for n in part.split(":")] for part in text.split(",")]
    if option == "--voxel-size":
        return [float(n) for n in text.split(",")]
    return float(text) if option == "--threshold" else text


def _option(random: Random, kind: str, folder: Path) -> str:
    if kind == "box" and random.random() < 0.8:
        return ",".join(random.choice(BOXES) for _ in range(random.choice((3, 3, 3, 2, 4))))
    if kind == "three" and random.random() < 0.8:
        return ",".join(random.choice(VALUES[:30]) for _ in range(random.choice((3, 3, 2))))
    if kind == "text" and random.random() < 0.2:
        return str(folder / "case" / random.choice(VALUES).replace("/", "_")[:200])
    if kind == "number" and random.random() < 0.6:
        return str(random.choice(mutations.ODD))
    return random.choice(VALUES)


def same(found: Any, expected: Any) -> bool:
    """Whether values are equal in kind and number; lists are tuples."""
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        pairs = zip(found, expected, strict=False)
        return len(found) == len(expected) and all(same(a, b) for a, b in pairs)
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(found, float) and type(expected) is int:
        return found == float(expected)
    return isinstance(found, bool) == isinstance(expected, bool) and bool(found == expected)
