"""What a patch assumes about code that it does not change: what functions compute, and that none is overridden."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from toto_patcher.errors import RefusedError, UnknownSourceError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.normal_form import Scope
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.reach import Reach
from toto_patcher.patching.scope import scope_of
from toto_patcher.patching.shape import Alternatives, first_difference, function_shape, is_like
from toto_patcher.patching.syntax import class_statements, parse_syntax, statements
from toto_patcher.patching.vendoring.releases import pinned_releases

HINT = "Undo that change, or select only patches that do not depend on it."


def broken_assumptions(original: Checkout, patch: Patch) -> list[RefusedError]:
    """Every assumption of the patch that the checkout does not meet."""
    refusals: list[RefusedError] = []
    known: Known = {}
    for name, alternatives in patch.assumes.items():
        refusals += _unlike(patch, name, alternatives, places(original, name, known), original)
    return refusals + _overrides(original, patch)


@dataclass(frozen=True)
class Place:
    """One place where a function should be.

    Attributes:
        path: the file.
        line: of the function, or of the class that has none of that name.
        function: its definition; ``None`` where there is none.
        fault: why what is there cannot be relied on.
        owner: the class that it is a method of.
    """

    path: PurePosixPath
    line: int
    function: ast.FunctionDef | None = None
    fault: str = ""
    owner: ast.ClassDef | None = None

    def scope(self, original: Checkout) -> Scope:
        """What the function's names mean."""
        return scope_of(parse_syntax(original.read(self.path), self.path), self.owner)


Known = dict[str, list[tuple[PurePosixPath, ast.ClassDef]]]


def places(original: Checkout, name: str, known: Known | None = None) -> list[Place]:
    """Every definition, of those that are Toto's own, of ``Class.method``, or of a module's ``function``.

    Args:
        original: the tree.
        name: of the function.
        known: the classes that were found by earlier calls; it is added to.
    """
    owner, _, function = name.rpartition(".")
    if owner:
        known = {} if known is None else known
        if owner not in known:
            own = {(place.path, place.line): None for place in Reach.of(original).definitions(owner)}
            paths = dict.fromkeys(path for path, _ in own)
            classes = [(path, node) for path in paths for node in class_statements(original.read(path), path)]
            known[owner] = [(path, node) for path, node in classes if (path, node.lineno) in own]
        return [place for path, node in known[owner] for place in _in_class(path, node, function)]
    found = []
    for path in original.sources:
        source = original.read(path)
        if b"def " + function.encode() in source:
            functions = _functions(parse_syntax(source, path).body)
            found += [Place(path, node.lineno, node) for node in functions if node.name == function]
    used = Reach.of(original).files
    return [place for place in found if place.path in used] if used else found


def _in_class(path: PurePosixPath, node: ast.ClassDef, name: str) -> Iterator[Place]:
    for decorator in node.decorator_list:
        if _last_name(decorator.func if isinstance(decorator, ast.Call) else decorator) != "dataclass":
            yield Place(path, decorator.lineno, fault=f"class {node.name} is decorated")
    for item in node.body:
        if isinstance(item, ast.Assign) and any(_last_name(target) == name for target in item.targets):
            yield Place(path, item.lineno, fault=f"{node.name}.{name} is assigned")
    functions = [item for item in _functions(node.body) if item.name == name]
    yield from (Place(path, item.lineno, item, owner=node) for item in functions)
    if not functions:
        yield Place(path, node.lineno)


def _functions(body: Sequence[ast.stmt]) -> Iterator[ast.FunctionDef]:
    """The functions that a body defines, also those under a condition."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield node
        elif not isinstance(node, ast.ClassDef | ast.AsyncFunctionDef):
            for name in ("body", "orelse", "finalbody"):
                yield from _functions(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from _functions(handler.body)


def _unlike(
    patch: Patch, name: str, alternatives: Alternatives, found: Sequence[Place], original: Checkout
) -> Iterator[RefusedError]:
    if not found and None not in alternatives:
        owner = name.rpartition(".")[0]
        what = f"class {owner}" if owner else f"function {name}"
        message = f"{patch.id}: no file under the root defines {what}, which the patch relies on"
        yield UnknownSourceError(message, path=original.root, hint=HINT)
    for place in found:
        fault, line = place.fault, place.line
        if not fault and place.function is None and None not in alternatives:
            owner, _, function = name.rpartition(".")
            fault = f"class {owner} has no method {function}, which the patch relies on"
        elif not fault and place.function is not None and not is_released(original.read(place.path)):
            shape = _shape(_Written.at(place, original))
            if not any(expected is not None and is_like(shape, expected) for expected in alternatives):
                fault = f"{name} is not the one that the patch relies on"
                line = first_difference(place.function, place.scope(original), alternatives)
        if fault:
            yield UnknownSourceError(f"{patch.id}: {fault}", path=place.path, line=line, hint=HINT)


@functools.lru_cache(maxsize=64)
def is_released(source: bytes) -> bool:
    """A file just as it was released: every patch was made for what its functions compute, and tests see to that."""
    return fingerprint(source) in _released()


@functools.cache
def _released() -> frozenset[str]:
    return frozenset(digest for release in pinned_releases().values() for digest in release.files.values())


@dataclass(frozen=True)
class _Written:
    """A function by its text and by what its names mean: most forms of a tree leave most functions alone."""

    text: bytes
    meaning: tuple[object, ...]
    function: ast.FunctionDef = field(compare=False)
    scope: Scope = field(compare=False)

    @classmethod
    def at(cls, place: Place, original: Checkout) -> _Written:
        assert place.function is not None
        function, scope = place.function, place.scope(original)
        first = min([function.lineno, *(mark.lineno for mark in function.decorator_list)])
        lines = original.read(place.path).splitlines()[first - 1 : function.end_lineno]
        meaning = (tuple(scope.origins.items()), tuple(scope.parameters.items()), scope.never)
        return cls(b"\n".join(lines), meaning, function, scope)


@functools.lru_cache(maxsize=2048)
def _shape(written: _Written) -> tuple[tuple[int, str], ...]:
    """The function's shape; only its digests are to be used, for the lines are those of the first of its kind."""
    return tuple(function_shape(written.function, written.scope))


def _overrides(original: Checkout, patch: Patch) -> list[RefusedError]:
    """Subclasses, in whatever file and under whatever name, with their own version of a method the patch relies on."""
    family = {name: {name} for name in patch.sealed}  # name of a class -> the sealed classes that it stands for
    reach = Reach.of(original)
    members = {(place.path, name) for name in patch.sealed for place in reach.definitions(name)}
    found: dict[tuple[PurePosixPath, int, str], RefusedError] = {}
    before = 0
    while before < (before := sum(map(len, family.values()))):
        names = sorted(name.encode() for name in family)
        mention = re.compile(rb"\b(" + b"|".join(names) + rb")\b")
        for path in original.sources:
            source = original.read(path)
            if not any(name in source for name in names) or not mention.search(source):  # the first is far faster
                continue
            _add_aliases(source, path, family)
            classes = {node.name: node for node in class_statements(source, path)}
            for node in classes.values():
                bases = [_last_name(base) for base in node.bases]
                known = [base for base in node.bases if _may_be(reach, path, base, members)]
                parents = set().union(*(family.get(_last_name(base), ()) for base in known))
                if not parents:
                    continue
                members.add((path, node.name))
                family.setdefault(node.name, set()).update(parents)
                mixins = [classes[base] for base in bases if base in classes and base not in family]
                for owner in (node, *mixins):
                    for name, line in _bound(owner).items():
                        for parent in sorted(parents):
                            if name in patch.sealed[parent]:
                                message = f"{patch.id}: {owner.name} overrides {parent}.{name}"
                                refusal = UnknownSourceError(message, path=path, line=line, hint=HINT)
                                found[path, line, parent] = refusal
            for target, line in _assigned_attributes(source, path):
                name, attribute = _last_name(target.value), target.attr
                for parent in sorted(family.get(name, ())):
                    if attribute in patch.sealed[parent] and _may_be(reach, path, target.value, members):
                        message = f"{patch.id}: a method of {parent} is assigned: {name}.{attribute}"
                        found[path, line, parent] = UnknownSourceError(message, path=path, line=line, hint=HINT)
    return list(found.values())


@functools.lru_cache(maxsize=64)  # asked again for every class and until no name is added
def _naming_statements(source: bytes, path: PurePosixPath) -> tuple[ast.ImportFrom | ast.Assign, ...]:
    tree = parse_syntax(source, path)
    return tuple(node for node in statements(tree) if isinstance(node, ast.ImportFrom | ast.Assign))


def _add_aliases(source: bytes, path: PurePosixPath, family: dict[str, set[str]]) -> None:
    """Other names for the classes: ``import ... as``, ``Alias = Class``."""
    for node in _naming_statements(source, path):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.asname and alias.name in family:
                    family.setdefault(alias.asname, set()).update(family[alias.name])
        elif isinstance(node.value, ast.Name) and node.value.id in family:
            for target in node.targets:
                if isinstance(target, ast.Name):
                    family.setdefault(target.id, set()).update(family[node.value.id])


def _assigned_attributes(source: bytes, path: PurePosixPath) -> Iterator[tuple[ast.Attribute, int]]:
    """(``Name.attribute``, line) of every ``Name.attribute = ...``."""
    for node in _naming_statements(source, path):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Attribute):
                yield target, node.lineno


def _may_be(reach: Reach, path: PurePosixPath, base: ast.expr, members: set[tuple[PurePosixPath, str]]) -> bool:
    """Whether a name in a file may stand for one of some classes; ``False`` only where it is known to be another."""
    while isinstance(base, ast.Subscript):
        base = base.value
    if isinstance(base, ast.Name):
        origins = reach.graph.origins(path, base.id)
        return bool(origins & members) if origins or reach.graph.is_bound(path, base.id) else True
    root = base
    while isinstance(root, ast.Attribute):
        root = root.value
    return not (isinstance(root, ast.Name) and reach.graph.is_foreign(path, root.id))


def _bound(node: ast.ClassDef) -> dict[str, int]:
    """Name -> line of everything that a class's body binds: methods, also conditional ones, and assignments."""
    bound: dict[str, int] = {}
    for item in statements(node):
        if isinstance(item, ast.FunctionDef):
            bound[item.name] = item.lineno
        elif isinstance(item, ast.Assign):
            bound |= {target.id: item.lineno for target in item.targets if isinstance(target, ast.Name)}
    return bound


def _last_name(base: ast.expr) -> str:
    """``Base`` of ``Base``, of ``module.Base`` and of ``Base[T]``."""
    if isinstance(base, ast.Subscript):
        return _last_name(base.value)
    return base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
