"""The shape of a function: what it computes, free of how it is written down.

A patch that puts its own code in place of a method must know that the method computes what the patch assumes. The
shape is a digest of the syntax tree without docstring, comments, formatting, annotations and messages of asserts, and
with the names of local variables replaced by their order of appearance. Two methods of the same shape compute the same.
"""

from __future__ import annotations

import ast
import hashlib
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path

Alternatives = tuple[tuple[str, ...] | None, ...]
"""The shapes that a function may have, each as ``function_shape`` has it; ``None`` where it need not be there."""


def statement_shapes(function: ast.FunctionDef) -> list[tuple[int, str]]:
    """(line, digest) of every top-level statement of a function's body, docstring left out."""
    names: dict[str, str] = {}
    for argument in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]:
        names.setdefault(argument.arg, f"v{len(names)}")
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, "")
    serialiser = _Serialiser(names)
    body = [node for node in _without_docstring(function.body) if not _is_declaration(node)]
    return [(node.lineno, serialiser.digest(node)) for node in body]


def function_shape(function: ast.FunctionDef) -> list[tuple[int, str]]:
    """(line, digest) of a function's head, then of its statements.

    The head is what callers meet: decorators, number and kinds of the parameters, and their defaults.
    """
    given = function.args
    kinds = (given.posonlyargs, given.args, given.kwonlyargs)
    counts = [*map(len, kinds), int(given.vararg is not None), int(given.kwarg is not None)]
    head = [*map(ast.Constant, counts), *function.decorator_list, *given.defaults, *filter(None, given.kw_defaults)]
    return [(function.lineno, _Serialiser({}).digest(ast.List(elts=head))), *statement_shapes(function)]


def _is_declaration(node: object) -> bool:
    """A statement that computes nothing: ``name: type`` and ``pass``."""
    declares = isinstance(node, ast.AnnAssign) and node.value is None and isinstance(node.target, ast.Name)
    return declares or isinstance(node, ast.Pass)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:]
    return body


class _Serialiser:
    """Writes a tree down the same way under every Python version; names locals in order of appearance."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._numbered = sum(1 for value in names.values() if value)

    def digest(self, node: ast.AST) -> str:
        return hashlib.sha256(self._text(node).encode()).hexdigest()[:16]

    def _text(self, node: object) -> str:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            return self._text(ast.Assign(targets=[node.target], value=node.value))
        if isinstance(node, ast.Assert):
            return f"Assert({self._text(node.test)})"
        if isinstance(node, ast.Name):
            return f"Name({self._name(node.id)})"
        if isinstance(node, ast.AST):
            fields = (
                f"{name}={self._text(value)}"
                for name, value in ast.iter_fields(node)
                if value not in (None, []) and name not in ("ctx", "type_comment", "kind")
            )
            return f"{type(node).__name__}({','.join(fields)})"
        if isinstance(node, list):
            return f"[{','.join(self._text(item) for item in node if not _is_declaration(item))}]"
        return repr(node)

    def _name(self, name: str) -> str:
        known = self._names.get(name)
        if known is None:
            return name
        if not known:
            known = self._names[name] = f"v{self._numbered}"
            self._numbered += 1
        return known


def function_shapes(source: str) -> list[tuple[int, str]]:
    """``statement_shapes`` of the source of one function, however it is indented; lines count from its first."""
    function = ast.parse(textwrap.dedent(source.lstrip("\r\n"))).body[0]
    return statement_shapes(function) if isinstance(function, ast.FunctionDef) else []


def read_shapes(path: Path) -> Mapping[str, Alternatives]:
    """What ``write_shapes`` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: tuple(None if shape is None else tuple(shape.split()) for shape in shapes)
        for name, shapes in content.items()
    }


def write_shapes(path: Path, shapes: Mapping[str, Alternatives]) -> None:
    """Writes the shapes that functions may have, the digests of each joined by spaces."""
    content = {
        name: [None if shape is None else " ".join(shape) for shape in alternatives]
        for name, alternatives in shapes.items()
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import sys

    for node in ast.walk(ast.parse(Path(sys.argv[1]).read_bytes())):
        if isinstance(node, ast.FunctionDef) and node.name == sys.argv[2]:
            for line, digest in statement_shapes(node):
                sys.stdout.write(f"{line:5d}  {digest}\n")
