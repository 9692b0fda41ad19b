"""The shape of a function: what it computes, free of how it is written down.

A patch that puts its own code in place of a method must know that the method computes what the patch assumes. The
shape is a digest of the normal form (``normal_form``), with the names of local variables replaced by their order of
appearance. Two methods of the same shape compute the same.
"""

from __future__ import annotations

import ast
import hashlib
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from toto_patcher.patching.normal_form import Scope, normal_form

PARTS = "~"
TOLD_APART = (ast.BinOp, ast.Call, ast.Compare, ast.Subscript)
Alternatives = tuple[tuple[str, ...] | None, ...]
"""The shapes that a function may have, each as ``function_shape`` has it; ``None`` where it need not be there."""


def statement_shapes(function: ast.FunctionDef, scope: Scope | None = None) -> list[tuple[int, str]]:
    """(line, digest) of every top-level statement of a function's normal form."""
    return [(node.lineno, digest) for node, digest, _ in _body(normal_form(function, scope or Scope()))]


def _body(made: ast.FunctionDef) -> list[tuple[ast.stmt, str, list[tuple[int, str]]]]:
    """Every statement of a normal form, its digest, and (line, digest) of its parts, the innermost first."""
    names: dict[str, str] = {}
    for argument in [*made.args.posonlyargs, *made.args.args, *made.args.kwonlyargs]:
        names.setdefault(argument.arg, f"v{len(names)}")
    for node in ast.walk(made):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, "")
    serialiser = _Serialiser(names)
    return [(node, *serialiser.digests(node)) for node in made.body]


def function_shape(function: ast.FunctionDef, scope: Scope | None = None) -> list[tuple[int, str]]:
    """(line, digest) of a function's head, then of its statements.

    The head is what callers meet: decorators, number and kinds of the parameters, and their defaults. Where the
    constructor refuses objects with some attributes, the head says so: what holds for the others is another shape.
    """
    scope = scope or Scope()
    made = normal_form(function, scope)
    head = (function.lineno, _head(made, scope, len(made.args.defaults)))
    return [head, *((node.lineno, digest) for node, digest, _ in _body(made))]


def released_shape(function: ast.FunctionDef, scope: Scope | None = None) -> tuple[str, ...]:
    """The digests of a function that others may be like: its head also with defaults missing, separated by ``|``.

    Callers that give every argument get the same from a function without the defaults, and the others an error.
    Last, after ``~``, stand shorter digests of the parts of all statements: they tell the line of what differs.
    """
    scope = scope or Scope()
    made = normal_form(function, scope)
    heads = [_head(made, scope, count) for count in range(len(made.args.defaults), -1, -1)]
    body = _body(made)
    parts = sorted({part for _, _, found in body for _, part in found})
    return ("|".join(heads), *(digest for _, digest, _ in body), PARTS + ",".join(parts))


def statements_of(expected: Sequence[str]) -> tuple[str, ...]:
    """What a ``released_shape`` says of the head and of each statement."""
    return tuple(digest for digest in expected if not digest.startswith(PARTS))


def is_like(shape: Sequence[tuple[int, str]], expected: Sequence[str]) -> bool:
    """Whether a ``function_shape`` is one that ``released_shape`` allows."""
    wanted = statements_of(expected)
    return len(shape) == len(wanted) == alike(shape, wanted)


def alike(shape: Sequence[tuple[int, str]], wanted: Sequence[str]) -> int:
    """How many statements are the same, the head counted as one, from the first on."""
    pairs = enumerate(zip(shape, wanted, strict=False))
    differing = (number for number, ((_, digest), want) in pairs if digest not in want.split("|"))
    return next(differing, min(len(shape), len(wanted)))


def first_difference(function: ast.FunctionDef, scope: Scope, alternatives: Alternatives, *, head: bool = True) -> int:
    """The line from which on a function is like none of the alternatives; its first where it only ends too early.

    It is that of the first part, in the order in which they are evaluated, that is none of the best alternative's.

    Args:
        function: the function.
        scope: what its names mean.
        alternatives: what it should be like.
        head: whether what callers meet counts, too.
    """
    shape, skipped = function_shape(function, scope), 0 if head else 1
    best = max(
        filter(None, alternatives), key=lambda one: alike(shape[skipped:], statements_of(one)[skipped:]), default=()
    )
    number = alike(shape[skipped:], statements_of(best)[skipped:]) + skipped
    if not 0 < number < len(shape):
        return function.lineno
    node, _, parts = _body(normal_form(function, scope))[number - 1]
    known = {part for one in best if one.startswith(PARTS) for part in one[len(PARTS) :].split(",")}
    return next((line for line, part in parts if part not in known), node.lineno)


def _head(made: ast.FunctionDef, scope: Scope, defaults: int) -> str:
    given = made.args
    kinds = (given.posonlyargs, given.args, given.kwonlyargs)
    counts = [*map(len, kinds), int(given.vararg is not None), int(given.kwarg is not None)]
    kept = given.defaults[len(given.defaults) - defaults :]
    never = [ast.Constant(name) for name in sorted(scope.never)]
    keyword_defaults = filter(None, given.kw_defaults)
    head = [*map(ast.Constant, counts), *made.decorator_list, *kept, *keyword_defaults, *never]
    return _Serialiser({}).digest(ast.List(elts=head))


class _Serialiser:
    """Writes a tree down the same way under every Python version; names locals in order of appearance."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._numbered = sum(1 for value in names.values() if value)
        self._parts: list[tuple[int, str]] = []

    def digests(self, node: ast.stmt) -> tuple[str, list[tuple[int, str]]]:
        """A statement's digest, and (line, digest) of the parts that are told apart in it, the innermost first."""
        self._parts = []
        return self.digest(node), self._parts

    def digest(self, node: ast.AST) -> str:
        return hashlib.sha256(self._text(node).encode()).hexdigest()[:16]

    def _text(self, node: object) -> str:
        if isinstance(node, ast.Name):
            return f"Name({self._name(node.id)})"
        if isinstance(node, ast.AST):
            fields = (
                f"{name}={self._text(value)}"
                for name, value in ast.iter_fields(node)
                if value not in (None, []) and name not in ("ctx", "type_comment", "kind")
            )
            text = f"{type(node).__name__}({','.join(fields)})"
            if isinstance(node, TOLD_APART):
                self._parts.append((node.lineno, hashlib.sha256(text.encode()).hexdigest()[:4]))
            return text
        if isinstance(node, list):
            return f"[{','.join(self._text(item) for item in node)}]"
        return repr(node)

    def _name(self, name: str) -> str:
        known = self._names.get(name)
        if known is None:
            return name
        if not known:
            known = self._names[name] = f"v{self._numbered}"
            self._numbered += 1
        return known


def function_shapes(source: str, scope: Scope | None = None) -> list[tuple[int, str]]:
    """``statement_shapes`` of the source of one function, however it is indented; lines count from its first."""
    function = ast.parse(textwrap.dedent(source.lstrip("\r\n"))).body[0]
    return statement_shapes(function, scope) if isinstance(function, ast.FunctionDef) else []


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
