"""Plants one named fault in one method of a source file by matching syntax trees: its layout does not matter."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass


class NoMatchError(AssertionError):
    """The code that a fault changes is no longer there: the fault must be written anew, not dropped."""


@dataclass(frozen=True)
class Edit:
    """Replaces every occurrence of an expression or a statement in a method.

    Attributes:
        old: its source; a single capital letter stands for any expression.
        new: the source to put there, with the same letters; empty to delete a statement.
    """

    old: str
    new: str


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        name: what is wrong, in dashes.
        class_name: the class whose method is changed; empty where it is a function of the module.
        method: the method or function.
        edits: made together, each on the original method.
        caught_by: beginning of the name of a check that must fail.
        compiled: shows only under torch.compile.
        file: the file's name, for code that a patch adds; without it, the file that defines the class.
    """

    name: str
    class_name: str
    method: str
    edits: tuple[Edit, ...]
    caught_by: str
    compiled: bool = False
    file: str = ""


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
    if not fault.class_name:
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == fault.method:
                return node
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


Bindings = dict[str, ast.AST]


def _is_wildcard(node: object) -> bool:
    return isinstance(node, ast.Name) and len(node.id) == 1 and node.id.isupper()


def _plain(node: ast.AST) -> str:
    """The syntax of an expression, whether it is read or written."""
    return ast.dump(node).replace("Store()", "Load()")


def _match(pattern: object, node: object, bound: Bindings) -> bool:
    """Whether a node has the pattern's syntax, wherever it stands; notes what the wildcards stand for."""
    if _is_wildcard(pattern):
        return isinstance(node, ast.expr) and _plain(bound.setdefault(pattern.id, node)) == _plain(node)
    if isinstance(pattern, ast.AST):
        return type(pattern) is type(node) and all(
            _match(value, getattr(node, name, None), bound)
            for name, value in ast.iter_fields(pattern)
            if name not in ("ctx", "type_comment", "kind")
        )
    if isinstance(pattern, list):
        return (
            isinstance(node, list)
            and len(pattern) == len(node)
            and all(_match(one, other, bound) for one, other in zip(pattern, node, strict=True))
        )
    return pattern == node


class _Filled(ast.NodeTransformer):
    """Puts what the wildcards stand for in their place."""

    def __init__(self, bound: Bindings) -> None:
        self._bound = bound

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if not _is_wildcard(node):
            return node
        found = copy.deepcopy(self._bound[node.id])
        if isinstance(found, ast.Name | ast.Attribute | ast.Subscript):
            found.ctx = node.ctx
        return found


class _Swap(ast.NodeTransformer):
    def __init__(self, fault: Fault) -> None:
        self.used: set[Edit] = set()
        self._statements: list[tuple[ast.stmt, Edit]] = []
        self._expressions: list[tuple[ast.expr, Edit]] = []
        self._decorators: list[tuple[ast.expr, Edit]] = []
        for edit in fault.edits:
            if edit.old.startswith("@"):
                self._decorators.append((ast.parse(edit.old[1:], mode="eval").body, edit))
                continue
            (statement,) = ast.parse(edit.old).body
            put = ast.parse(edit.new).body
            if isinstance(statement, ast.Expr) and len(put) == 1 and isinstance(put[0], ast.Expr):
                self._expressions.append((statement.value, edit))
            else:
                self._statements.append((statement, edit))

    def visit_decorator(self, node: ast.expr) -> ast.expr | None:
        for pattern, edit in self._decorators:
            if _match(pattern, node, {}):
                self.used.add(edit)
                return ast.parse(edit.new[1:], mode="eval").body if edit.new else None
        return node

    def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt] | None:
        if isinstance(node, ast.stmt):
            for statement, edit in self._statements:
                if _match(statement, node, bound := {}):
                    self.used.add(edit)
                    return _Filled(bound).visit(ast.parse(edit.new)).body
        if isinstance(node, ast.expr):
            for expression, edit in self._expressions:
                if _match(expression, node, bound := {}):
                    self.used.add(edit)
                    return _Filled(bound).visit(ast.parse(edit.new, mode="eval")).body
        return self.generic_visit(node)
