"""Graphs of exported networks: they compute, and can do nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from toy_exported import MODEL, VOLUME, Tree, Volume, copied, edited, rewritten

from cadseg.errors import WeightsError
from cadseg.models import weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def first_node(change: Callable[[Tree], object]) -> Callable[[Tree], object]:
    """A change of the graph's first operator."""
    return lambda tree: change(tree["graph_module"]["graph"]["nodes"][0])


EVIL = "__import__('pathlib').Path('TRACE').touch()"


def expressions(tree: Tree) -> None:
    """Put code wherever the graph holds an expression."""
    tree["guards_code"] = [EVIL]

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "expr_str" in node:
                node["expr_str"] = EVIL
            node = list(node.values())
        for item in node if isinstance(node, list) else ():
            walk(item)

    walk(tree)


TEXT = {"name": "filename", "arg": {"as_string": "TRACE"}, "kind": 1}
GRAPHS: dict[str, tuple[Callable[[Tree], object], str | None]] = {
    "expressions": (expressions, None),
    "a function of PyTorch": (
        first_node(lambda n: n.update(target="torch.hub.load")),
        "torch.hub.load is none of PyTorch's own",
    ),
    "a module that PyTorch imports": (
        first_node(lambda n: n.update(target="torch.os.system", inputs=[TEXT])),
        "torch.os.system is none of PyTorch's own",
    ),
    "a function of Python": (
        first_node(lambda n: n.update(target="_operator.methodcaller")),
        "methodcaller is none",
    ),
    "an attribute": (
        first_node(lambda n: n.update(target="torch.ops.aten.__class__.default")),
        "__class__.default is none",
    ),
    "a file": (
        first_node(lambda n: n.update(target="torch.ops.aten.from_file.default", inputs=[TEXT])),
        "takes text",
    ),
    "chance": (
        first_node(lambda n: n.update(target="torch.ops.aten.rand.default", inputs=[])),
        "draws random numbers",
    ),
    "a newer schema": (lambda t: t["schema_version"].update(major=9), "schema 9, not 8"),
    "another type": (
        lambda t: [m.update(dtype=5) for m in t["graph_module"]["graph"]["tensor_values"].values()],
        "its input is not float32",
    ),
    "no graph": (lambda t: t.clear(), "cannot be run"),
}  # fmt: skip


@pytest.mark.parametrize("what", GRAPHS)
def test_a_graph_can_only_compute(
    what: str, pt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that names code, files or chance is refused in a sentence, and runs none of it."""
    path, (change, sentence) = copied(pt2, tmp_path), GRAPHS[what]
    monkeypatch.chdir(tmp_path)
    rewritten(path, {MODEL: edited(change)})
    before = sorted(tmp_path.iterdir())
    if sentence is None:
        weights.load(path)
    else:
        with pytest.raises(WeightsError, match=sentence) as caught:
            weights.load(path)
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_network_that_learns_is_refused(tmp_path: Path) -> None:
    """Exported in training mode, a network would change with every window."""
    network = Volume()
    program = torch.export.export(network.train(), (torch.rand(1, 1, 4, 8, 8),))
    torch.export.save(program, tmp_path / "learns.pt2")
    (tmp_path / "learns.yaml").write_text(yaml.safe_dump(VOLUME))
    with pytest.raises(WeightsError, match=r"training mode"):
        weights.load(tmp_path / "learns.pt2")
