"""The fast walks and rewrites of libcst's trees do what libcst's own visitors do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import libcst as cst
import pytest

from toto_patcher.patching import nodes


class Names(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[cst.CSTNode] = []

    def visit_Name(self, node: cst.Name) -> None:  # noqa: N802
        self.found.append(node)


class Renaming(cst.CSTTransformer):
    """Changes leaves and, at the same time, what holds them."""

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:  # noqa: N802
        return updated_node.with_changes(value="me") if original_node.value == "self" else updated_node

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:  # noqa: N802
        return updated_node.with_changes(args=updated_node.args[:1]) if len(updated_node.args) > 2 else updated_node


@pytest.fixture(params=["util.py", "attention.py"])
def module(request: pytest.FixtureRequest, toto_release: Callable[[str], Path]) -> cst.Module:
    return cst.parse_module((toto_release("0.2.0") / "toto" / "model" / request.param).read_bytes())


def test_every_finds_all_of_a_kind(module: cst.Module) -> None:
    visitor = Names()
    module.visit(visitor)
    found = nodes.every(module, cst.Name)
    assert len(found) > 300 and set(map(id, found)) == set(map(id, visitor.found))


def test_parents_are_those_that_hold_a_node(module: cst.Module) -> None:
    parents = nodes.parents(module)
    for node in nodes.walk(module)[1:]:
        assert any(child is node for child in nodes.children(parents[id(node)]))


def test_rewritten_writes_what_a_visit_writes_and_copies_no_more(module: cst.Module) -> None:
    visited = module.visit(Renaming())
    assert isinstance(visited, cst.Module) and visited.code != module.code
    changed = cst.ensure_type(nodes.rewritten(module, Renaming()), cst.Module)
    assert changed.code == visited.code
    assert nodes.rewritten(module, cst.CSTTransformer()) is module
    assert [item for item in changed.body if item in module.body]
