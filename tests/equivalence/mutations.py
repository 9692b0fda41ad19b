"""Plants one named fault in one method of a source file by matching syntax trees: its layout does not matter."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass


class NoMatchError(AssertionError):
    """The code that a fault changes is no longer there: the fault must be written anew, not dropped."""


@dataclass(frozen=True)
class Edit:
    """Replaces every occurrence of an expression or a statement in a method.

    Attributes:
        old: its source.
        new: the source to put there; empty to delete a statement.
    """

    old: str
    new: str


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        name: what is wrong, in dashes.
        class_name: the class whose method is changed.
        method: the method.
        edits: made together, each on the original method.
        caught_by: beginning of the name of a check that must fail.
        compiled: shows only under torch.compile.
    """

    name: str
    class_name: str
    method: str
    edits: tuple[Edit, ...]
    caught_by: str
    compiled: bool = False


def plant(fault: Fault, source: str) -> str:
    """The source with the fault in it.

    Raises:
        NoMatchError: the class, the method or what an edit replaces is not there, or nothing changed.
    """
    tree = ast.parse(source)
    before = ast.dump(tree)
    method = _find(tree, fault)
    swap = _Swap(fault)
    method.body = [changed for statement in method.body for changed in _listed(swap.visit(statement))]
    method.decorator_list = [
        kept for decorator in method.decorator_list if (kept := swap.visit_decorator(decorator)) is not None
    ]
    missing = [edit.old for edit in fault.edits if edit not in swap.used]
    if missing:
        raise NoMatchError(f"{fault.name}: {fault.class_name}.{fault.method} has no {missing[0]!r}")
    method.body = method.body or [ast.Pass()]
    ast.fix_missing_locations(tree)
    changed = ast.unparse(tree)
    if ast.dump(ast.parse(changed)) == before:
        raise NoMatchError(f"{fault.name}: nothing changed")
    return changed


def _find(tree: ast.Module, fault: Fault) -> ast.FunctionDef:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == fault.class_name:
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == fault.method:
                    return item
    raise NoMatchError(f"{fault.name}: there is no {fault.class_name}.{fault.method}")


def _listed(node: ast.AST | list[ast.AST] | None) -> list:
    if node is None:
        return []
    return node if isinstance(node, list) else [node]


def _key(node: ast.AST) -> str:
    """A form of a node that is the same wherever it stands: read or written, on whatever line."""
    return ast.dump(node).replace("ctx=Store()", "ctx=Load()")


class _Swap(ast.NodeTransformer):
    def __init__(self, fault: Fault) -> None:
        self.used: set[Edit] = set()
        self._statements: dict[str, tuple[Edit, Callable[[], list[ast.stmt]]]] = {}
        self._expressions: dict[str, tuple[Edit, Callable[[], ast.expr]]] = {}
        self._decorators: dict[str, Edit] = {}
        for edit in fault.edits:
            if edit.old.startswith("@"):
                self._decorators[_key(ast.parse(edit.old[1:], mode="eval").body)] = edit
                continue
            (statement,) = ast.parse(edit.old).body
            put = ast.parse(edit.new).body
            if isinstance(statement, ast.Expr) and len(put) == 1 and isinstance(put[0], ast.Expr):
                make = lambda edit=edit: ast.parse(edit.new, mode="eval").body  # noqa: E731
                self._expressions[_key(statement.value)] = (edit, make)
            else:
                self._statements[_key(statement)] = (edit, lambda edit=edit: ast.parse(edit.new).body)

    def visit_decorator(self, node: ast.expr) -> ast.expr | None:
        edit = self._decorators.get(_key(node))
        if edit is None:
            return node
        self.used.add(edit)
        return ast.parse(edit.new[1:], mode="eval").body if edit.new else None

    def visit(self, node: ast.AST) -> ast.AST | list[ast.AST] | None:
        if isinstance(node, ast.stmt) and _key(node) in self._statements:
            edit, make = self._statements[_key(node)]
            self.used.add(edit)
            return make()
        if isinstance(node, ast.expr) and _key(node) in self._expressions:
            edit, make = self._expressions[_key(node)]
            self.used.add(edit)
            return make()
        return self.generic_visit(node)
