"""What a patch assumes about code that it does not change: what methods compute, and that none is overridden."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from toto_patcher.errors import RefusedError, UnknownSourceError
from toto_patcher.patching.checkout import Checkout, class_statements, parse_syntax
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
    """Subclasses, in whatever file and under whatever name, with their own version of a method the patch relies on."""
    family: set[str] = {class_name}
    found: dict[tuple[PurePosixPath, int], RefusedError] = {}
    grown = True
    while grown:
        before = len(family)
        mention = re.compile(rb"\b(" + b"|".join(sorted(name.encode() for name in family)) + rb")\b")
        for path in original.sources:
            if not mention.search(original.read(path)):
                continue
            source = original.read(path)
            _add_aliases(source, path, family)
            classes = {node.name: node for node in class_statements(source, path)}
            for node in classes.values():
                bases = [_last_name(base) for base in node.bases]
                if not family & set(bases):
                    continue
                family.add(node.name)
                mixins = [classes[base] for base in bases if base in classes and base not in family]
                for owner in (node, *mixins):
                    for name, line in _bound(owner).items():
                        if name in sealed:
                            message = f"{patch.id}: {owner.name} overrides {class_name}.{name}"
                            found[path, line] = UnknownSourceError(message, path=path, line=line, hint=HINT)
        grown = len(family) > before
    return list(found.values())


@functools.lru_cache(maxsize=64)  # asked again for every class and until no name is added
def _naming_statements(source: bytes, path: PurePosixPath) -> tuple[ast.ImportFrom | ast.Assign, ...]:
    tree = parse_syntax(source, path)
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Assign))


def _add_aliases(source: bytes, path: PurePosixPath, family: set[str]) -> None:
    """Other names for the classes: ``import ... as``, ``Alias = Class``."""
    for node in _naming_statements(source, path):
        if isinstance(node, ast.ImportFrom):
            family |= {alias.asname for alias in node.names if alias.asname and alias.name in family}
        elif isinstance(node.value, ast.Name) and node.value.id in family:
            family |= {target.id for target in node.targets if isinstance(target, ast.Name)}


def _bound(node: ast.ClassDef) -> dict[str, int]:
    """Name -> line of everything that a class's body binds: methods, also conditional ones, and assignments."""
    bound: dict[str, int] = {}
    for item in ast.walk(node):
        if isinstance(item, ast.FunctionDef):
            bound[item.name] = item.lineno
        elif isinstance(item, ast.Assign):
            bound |= {target.id: item.lineno for target in item.targets if isinstance(target, ast.Name)}
    return bound


def _classes(original: Checkout, path: PurePosixPath) -> tuple[ast.ClassDef, ...]:
    return class_statements(original.read(path), path)


def _methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}


def _last_name(base: ast.expr) -> str:
    """``Base`` of ``Base``, of ``module.Base`` and of ``Base[T]``."""
    if isinstance(base, ast.Subscript):
        return _last_name(base.value)
    return base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
