"""What a function's names mean: where they were imported from, and what the constructor of its class rules out."""

from __future__ import annotations

import ast
import builtins
from collections import Counter
from collections.abc import Iterator, Sequence

from toto_patcher.patching.normal_form import Scope
from toto_patcher.patching.syntax import statements

# Imports of these mean the same in every tree. Other names stand for themselves: those of the tree are looked up by it.
LIBRARIES = frozenset(
    {"einops", "functools", "gluonts", "math", "numpy", "torch", "typing", "typing_extensions", "warnings"}
)


def scope_of(module: ast.Module, owner: ast.ClassDef | None = None, *, never: frozenset[str] | None = None) -> Scope:
    """The scope of the functions of a module, or of the methods of one of its classes.

    Args:
        module: the file.
        owner: the class.
        never: attributes to take for false; by default those that the constructor refuses.
    """
    parameters: dict[str, tuple[str, ...]] = {}
    methods = [node for node in owner.body if isinstance(node, ast.FunctionDef)] if owner else []
    for node in methods:
        static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
        parameters[f"self.{node.name}"] = _parameters(node, 0 if static else 1)
    refused = frozenset(_refused(methods)) if never is None else never
    return Scope(_origins(module), parameters, refused)


def _parameters(function: ast.FunctionDef, own: int) -> tuple[str, ...]:
    given = function.args
    if given.posonlyargs or given.vararg or given.kwarg:
        return ()
    return tuple(argument.arg for argument in given.args[own:])


def _origins(module: ast.Module) -> dict[str, str]:
    """Global name -> where it comes from, for what is bound once, by an import of a library.

    What is imported from the tree under another name is given with ``=`` before its own.
    """
    found: dict[str, str] = {}
    bound: Counter[str] = Counter()
    for name, origin in _bindings(module):
        bound[name] += 1
        if origin is not None:
            bound[name] -= found.get(name) == origin  # imported twice
            found[name] = origin
    known = {name: origin for name, origin in found.items() if bound[name] == 1}
    # A builtin that the module binds anew is not the builtin.
    return known | {name: f"local.{name}" for name in bound if hasattr(builtins, name) and name not in known}


def _bindings(module: ast.Module) -> Iterator[tuple[str, str | None]]:
    inside = {
        id(below) for node in statements(module) if _is_scope(node) for below in statements(node) if below is not node
    }
    for node in statements(module):
        if id(node) in inside:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, None
        elif isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or whole, whole if whole.partition(".")[0] in LIBRARIES else None
        elif isinstance(node, ast.ImportFrom):
            known = not node.level and node.module is not None and node.module.partition(".")[0] in LIBRARIES
            for alias in node.names:
                origin = f"{node.module}.{alias.name}" if known else f"={alias.name}" if alias.asname else None
                yield alias.asname or alias.name, origin
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For | ast.With):
            yield from ((name.id, None) for name in ast.walk(node) if isinstance(name, ast.Name) and _stores(name))


def _is_scope(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _stores(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Load)


def _refused(methods: Sequence[ast.FunctionDef]) -> Iterator[str]:
    """Attributes that are set in the constructor alone, which then refuses to make an object where one is true."""
    made = [node for node in methods if node.name == "__init__"]
    if len(made) != 1:
        return
    for node in made[0].body:
        test = node.test if isinstance(node, ast.Assert | ast.If) else None
        if isinstance(node, ast.Assert) and isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            test = test.operand
        elif not (isinstance(node, ast.If) and len(node.body) == 1 and isinstance(node.body[0], ast.Raise)):
            continue
        if isinstance(test, ast.Attribute) and isinstance(test.value, ast.Name) and test.value.id == "self":
            written = [
                line.lineno
                for method in methods
                for line in ast.walk(method)
                if isinstance(line, ast.Attribute) and line.attr == test.attr and not isinstance(line.ctx, ast.Load)
            ]
            if len(written) == 1 and written[0] < node.lineno:
                yield test.attr
