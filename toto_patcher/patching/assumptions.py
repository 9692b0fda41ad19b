"""What a patch assumes about code that it does not change: what methods compute, and that none is overridden."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from toto_patcher.errors import RefusedError, UnknownSourceError
from toto_patcher.patching.checkout import Checkout, class_statements
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.shape import statement_shapes

HINT = "Undo that change, or select only patches that do not depend on it."


def broken_assumptions(original: Checkout, patch: Patch) -> list[RefusedError]:
    """Every assumption of the patch that the checkout does not meet."""
    refusals: list[RefusedError] = []
    for class_name, expected in patch.assumes.items():
        refusals += _changed_methods(original, patch, class_name, expected)
    for class_name, sealed in patch.sealed.items():
        refusals += _overrides(original, patch, class_name, frozenset(sealed))
    return refusals


def _changed_methods(
    original: Checkout, patch: Patch, class_name: str, expected: Mapping[str, tuple[str, ...]]
) -> Iterator[RefusedError]:
    places = original.definitions(class_name)
    if not places:
        yield UnknownSourceError(
            f"{patch.id}: no file under the root defines class {class_name}, which the patch relies on",
            path=original.root,
            hint=HINT,
        )
    for path in dict.fromkeys(place.path for place in places):
        for node in _classes(original, path):
            if node.name == class_name:
                for method, shapes in expected.items():
                    yield from _unlike(patch, path, node, method, shapes)


def _unlike(
    patch: Patch, path: PurePosixPath, node: ast.ClassDef, method: str, shapes: tuple[str, ...]
) -> Iterator[RefusedError]:
    function = _methods(node).get(method)
    if function is None:
        message = f"{patch.id}: class {node.name} has no method {method}, which the patch relies on"
        yield UnknownSourceError(message, path=path, line=node.lineno, hint=HINT)
        return
    found = statement_shapes(function)
    if tuple(shape for _, shape in found) != shapes:
        line = next(
            (line for (line, shape), want in zip(found, shapes, strict=False) if shape != want), function.lineno
        )
        message = f"{patch.id}: {node.name}.{method} is not the one that the patch relies on"
        yield UnknownSourceError(message, path=path, line=line, hint=HINT)


def _overrides(original: Checkout, patch: Patch, class_name: str, sealed: frozenset[str]) -> list[RefusedError]:
    """Subclasses, in whatever file, with their own version of a method whose work the patch takes over."""
    family, grown = {class_name}, True
    found: dict[tuple[PurePosixPath, int], RefusedError] = {}
    while grown:
        known = frozenset(family)
        mention = re.compile(
            rb"^\s*class\b[^:]*\b(" + b"|".join(sorted(name.encode() for name in known)) + rb")\b", re.M
        )
        for path in original.sources:
            source = original.read(path)
            if not any(name.encode() in source for name in known) or not mention.search(source):
                continue
            for node in _classes(original, path):
                if known & {_last_name(base) for base in node.bases}:
                    family.add(node.name)
                    for name, function in _methods(node).items():
                        if name in sealed:
                            message = f"{patch.id}: {node.name} overrides {class_name}.{name}"
                            refusal = UnknownSourceError(message, path=path, line=function.lineno, hint=HINT)
                            found[path, function.lineno] = refusal
        grown = family != known
    return list(found.values())


def _classes(original: Checkout, path: PurePosixPath) -> tuple[ast.ClassDef, ...]:
    return class_statements(original.read(path), path)


def _methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}


def _last_name(base: ast.expr) -> str:
    """``Base`` of ``Base`` and of ``module.Base``."""
    return base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
