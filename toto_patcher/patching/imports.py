"""Who imports what in a tree, read from its sources: which files a name comes from, however it was handed on."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from toto_patcher.errors import RefusedError
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.syntax import parse_syntax

Path = PurePosixPath


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        level: number of leading dots.
        module: the dotted name after them.
        name: what is taken from the module; empty for the module itself, ``*`` for everything.
        bound: the name it has in the file; empty where nothing is bound.
    """

    level: int
    module: str
    name: str
    bound: str


@dataclass(frozen=True)
class Names:
    """The names of one file.

    Attributes:
        defined: those that classes, functions and assignments at its top level bind.
        aliases: name -> the names that it was assigned, ``A = B``.
        imports: everything that it imports, at whatever depth.
        used: dotted name -> the attributes that are asked of it, ``module.KVCache``.
        bare: names that are used otherwise.
    """

    defined: frozenset[str]
    aliases: Mapping[str, tuple[str, ...]]
    imports: tuple[Import, ...]
    used: Mapping[str, frozenset[str]] = field(default_factory=dict)
    bare: frozenset[str] = frozenset()


@functools.lru_cache(maxsize=512)
def names_of(source: bytes, path: Path) -> Names:
    """The names of a file.

    Raises:
        UnknownSourceError: it does not parse.
    """
    tree = parse_syntax(source, path)
    defined: set[str] = set()
    aliases: dict[str, tuple[str, ...]] = {}
    imports: list[Import] = []
    used: dict[str, set[str]] = {}
    bases = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    bare = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in bases
    }
    inner = {id(below) for node in ast.walk(tree) if _is_scope(node) for below in ast.walk(node) if below is not node}
    for node in ast.walk(tree):
        top = id(node) not in inner
        if isinstance(node, ast.Import):
            for alias in node.names:
                imports.append(Import(0, alias.name, "", alias.asname or alias.name.partition(".")[0]))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                imports.append(Import(node.level, node.module or "", alias.name, alias.asname or alias.name))
        elif isinstance(node, ast.Call):
            imports += _called(node)
        elif isinstance(node, ast.Attribute):
            used.setdefault(ast.unparse(node.value) if _is_dotted(node.value) else "", set()).add(node.attr)
        elif top and isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined.add(node.name)
        elif top and isinstance(node, ast.Assign):
            for target in node.targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        defined.add(name.id)
                        if isinstance(node.value, ast.Name):
                            aliases[name.id] = (*aliases.get(name.id, ()), node.value.id)
        elif top and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.add(node.target.id)
    asked = {name: frozenset(attributes) for name, attributes in used.items()}
    return Names(frozenset(defined), aliases, tuple(imports), asked, frozenset(bare))


def _is_scope(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _is_dotted(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _called(node: ast.Call) -> Iterator[Import]:
    """``importlib.import_module("...")`` and ``__import__("...")``."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called in ("import_module", "__import__") and node.args:
        name = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
        if isinstance(name, str):
            bare = name.lstrip(".")
            yield Import(len(name) - len(bare), bare, "*", "")


class Graph:
    """The imports of one checkout."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._sources = frozenset(checkout.sources)
        self._by_stem: dict[str, list[Path]] = {}
        for path in checkout.sources:
            module = path.parent if path.name == "__init__.py" else path.with_suffix("")
            self._by_stem.setdefault(module.name, []).append(path)

    def names(self, path: Path) -> Names:
        """The names of a file; none where it does not parse: what is wrong with it is said by whoever needs it."""
        try:
            return names_of(self._checkout.read(path), path)
        except RefusedError:
            return Names(frozenset(), {}, ())

    def reached(self, roots: Iterable[Path]) -> frozenset[Path]:
        """The files whose code the roots use, through imports of names and modules, also lazy ones.

        A file that only hands a name on counts for that name alone: a package that exports two models does not make
        the one use the other.
        """
        found: set[Path] = set()
        left = list(roots)
        while left:
            path = left.pop()
            if path not in found:
                found.add(path)
                for item in self.names(path).imports:
                    left += self._users(path, item)
        return frozenset(found)

    def origins(self, path: Path, name: str) -> frozenset[tuple[Path, str]]:
        """(file, name there) of everything that a name of a file may stand for, as far as the tree defines it."""
        return frozenset(self._origins(path, name, set()))

    def is_bound(self, path: Path, name: str) -> bool:
        """Whether a file says where a name comes from: it defines it, or imports it by that name."""
        names = self.names(path)
        return name in names.defined or any(item.bound == name for item in names.imports)

    def is_foreign(self, path: Path, name: str) -> bool:
        """Whether a name of a file is a module, or comes from one, that is not of this tree."""
        found = [item for item in self.names(path).imports if item.bound == name]
        return (
            bool(found)
            and name not in self.names(path).defined
            and not any(
                self._modules(path, item)
                or self._modules(path, Import(item.level, f"{item.module}.{item.name}", "", ""))
                for item in found
            )
        )

    def _users(self, path: Path, item: Import) -> Iterator[Path]:
        """The files whose code one import of a file brings in."""
        if item.name == "*":
            for module in self._modules(path, item):
                yield module
            return
        if item.name:
            for module in self._modules(path, item):
                yield from self._named(module, item.name)
            yield from self._submodules(path, item)
            return
        for module in self._modules(path, item):
            for key in {item.bound, item.module}:  # `import a.b as m`, `import a.b`
                yield from self._asked(path, module, key) if self._mentions(path, key) else ()
            if not any(self._mentions(path, key) for key in (item.bound, item.module)):
                yield module

    def _submodules(self, path: Path, item: Import) -> Iterator[Path]:
        """``from package import module``: what is asked of the module."""
        inner = Import(item.level, f"{item.module}.{item.name}".strip("."), "", item.bound)
        for module in self._modules(path, inner):
            yield from self._asked(path, module, item.bound)

    def _mentions(self, path: Path, key: str) -> bool:
        names = self.names(path)
        return key in names.used or key in names.bare

    def _asked(self, path: Path, module: Path, key: str) -> Iterator[Path]:
        """The files behind what is asked of a module by attributes; the module itself where it is used as a whole."""
        names = self.names(path)
        asked = names.used.get(key, frozenset())
        if not asked or key in names.bare:
            yield module
        for name in asked:
            below = self._below(module, name)
            for inner in below:
                yield from self._asked(path, inner, f"{key}.{name}")
            if not below:
                yield from self._named(module, name)

    def _named(self, module: Path, name: str) -> Iterator[Path]:
        """The files that define a name of a module; the module, where it hands it on in a way that is not seen."""
        origins = self._origins(module, name, set())
        if origins:
            yield from (place for place, _ in origins)
        elif not any(item.bound == name for item in self.names(module).imports) and not self._below(module, name):
            yield module

    def _below(self, module: Path, name: str) -> list[Path]:
        """The module of that name in a package."""
        return self._files(module.parent, [name]) if module.name == "__init__.py" else []

    def _origins(self, path: Path, name: str, seen: set[tuple[Path, str]]) -> set[tuple[Path, str]]:
        if (path, name) in seen:
            return set()
        seen.add((path, name))
        names = self.names(path)
        found: set[tuple[Path, str]] = set()
        for other in names.aliases.get(name, ()):
            found |= self._origins(path, other, seen)
        if name in names.defined:
            found.add((path, name))
        for item in names.imports:
            if item.bound == name and item.name:
                for module in self._modules(path, item):
                    found |= self._origins(module, item.name, seen)
            elif item.name == "*" and item.bound == "*":
                for module in self._modules(path, item):
                    found |= self._origins(module, name, seen)
        return found

    def _modules(self, path: Path, item: Import) -> list[Path]:
        """The files that the module of an import may be."""
        parts = [part for part in item.module.split(".") if part]
        if item.level:
            folder = path.parent
            for _ in range(item.level - 1):
                folder = folder.parent
            return self._files(folder, parts)
        if not parts:
            return []
        found: list[Path] = []
        for folder in path.parents:
            found += self._files(folder, parts)
        outer = self._checkout.root.parts
        for count in range(1, min(len(parts), len(outer)) + 1):  # the root is a package itself, or lies in one
            if list(outer[-count:]) == parts[:count]:
                found += self._files(Path(), parts[count:])
        if not found:
            tail = tuple(parts)
            found = [place for place in self._by_stem.get(parts[-1], ()) if _dotted(place)[-len(tail) :] == tail]
        return list(dict.fromkeys(found))

    def _files(self, folder: Path, parts: list[str]) -> list[Path]:
        place = folder.joinpath(*parts)
        candidates = [place / "__init__.py"]
        if parts:
            candidates.append(place.with_name(f"{place.name}.py"))
        return [candidate for candidate in candidates if candidate in self._sources]


def _dotted(path: Path) -> tuple[str, ...]:
    return path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts
