"""What the tree's own files define: its classes and functions, told from whatever stands in their place.

A name proves nothing, and neither does ``__wrapped__``. A function is the tree's own where its code object equals the
one that its file holds, and it looks up its globals in that file's module. Which file that is, the files themselves say
by their imports, beginning with the file that defines the forecaster.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import torch

from .sources import File, bound_in, function_of, is_foreign, names_in

DISPATCH = ("forward", "__call__", "_call_impl", "_wrapped_call_impl", "__getattr__", "__getattribute__")
"""What a call of a module goes through, besides the names that its code spells out."""
CONSTANT = (bool, int, str, type(None))
"""What a class may say of itself: no module, weight or method is hidden behind it."""
GIVEN = ("__name__", "__file__", "__package__", "__spec__", "__doc__", "__builtins__")
"""What Python itself puts into a module."""
SHARED_BASES = (torch.nn.Module, torch.distributions.Distribution)
COMPILERS = {"__init__", "__setstate__", "___needs_generation_tag_patch", "_validate_args"}
"""What torch.compile writes into these: how modules are made, and whether distributions check their arguments."""
TOPS = {"model", "data", "inference"}
"""Packages at the top of a tree whose imports are absolute."""


class ReplacedError(Exception):
    """Something on upstream's path is not what the tree's files define; the message names it."""


class Origin:
    """All that upstream's path reaches from a forecaster's class: proved when this is made, and again by ``holds``.

    Args:
        forecaster: the class, as its file defines it.
        methods: those of its methods that upstream's path calls.
        borrowed: classes of other packages that it calls.

    Raises:
        ReplacedError: something is not what the files define.
    """

    def __init__(self, forecaster: type, methods: tuple[str, ...], borrowed: tuple[type, ...]) -> None:
        self._functions: list[types.FunctionType] = []
        self._spaces: list[Any] = []
        self._borrowed: list[tuple[Any, str]] = []
        self._files: dict[str, File] = {}
        self._seen: set[Any] = set()
        self._used = set(DISPATCH)
        self._classes: list[tuple[type, frozenset[str] | None]] = []
        self._start = self._file(forecaster.__module__)
        self._class(forecaster, methods)
        names = names_in(File.inside(self._start.codes[forecaster.__name__])["forecast"])
        self._globals(names, self._start)  # what it does before and after, the decoder does as well
        for cls in borrowed:
            self._bases(cls)
        self._known: Any = None

    def find(self, name: str, user: type | None = None) -> type | None:
        """The class of that name that a file defines or imports: the file of ``user``, or one that it reaches."""
        waiting, seen = [self._start if user is None else self._file(user.__module__)], set()
        while waiting:
            file = waiting.pop(0)
            if file.name in seen:
                continue
            seen.add(file.name)
            found = vars(file.module).get(name) if name in file.codes else None
            if isinstance(found, type):
                self._class(found)
                return found
            home = file.imports.get(name)
            targets = [home[0]] if home else [*file.stars, *(module for module, _ in file.imports.values())]
            waiting = [self._file(target) for target in targets if self._own(target)] + ([] if home else waiting)
        return None

    def imported(self, name: str, user: type) -> type | None:
        """The class of another package that the file of ``user`` imports under a name."""
        file = self._file(user.__module__)
        found = vars(file.module).get(name)
        if name not in file.imports or found is None or found is not _at(*file.imports[name]):
            return None
        return found if isinstance(found, type) else None

    def seal(self) -> None:
        """Ends the proof: what was added to a class must not be used, and from now on ``holds`` compares.

        Raises:
            ReplacedError: something was added, or another package's method was replaced.
        """
        for cls, written in self._classes:
            package = cls.__module__.partition(".")[0]
            for name in self._used & vars(cls).keys():
                value = vars(cls)[name]
                if written is not None and name not in written and not isinstance(value, CONSTANT):
                    raise ReplacedError(f"{cls.__name__}.{name} was added")
                if written is None and is_foreign(value, package):
                    raise ReplacedError(f"{cls.__name__}.{name} was replaced")
        self._known = [dict(space) for space in self._spaces], self._shared(), self._read()

    def holds(self) -> bool:
        """Whether nothing was put in the place of anything since."""
        spaces, shared, read = self._known
        return self._spaces == spaces and self._shared() == shared and self._read() == read

    def _shared(self) -> list[dict[str, Any]]:
        """What stands in torch's own base classes, but for what its compiler writes into them at its first use."""
        return [{name: value for name, value in vars(cls).items() if name not in COMPILERS} for cls in SHARED_BASES]

    def _read(self) -> list[Any]:
        functions = self._functions
        return [
            [function.__code__ for function in functions],
            [function.__defaults__ for function in functions],
            [space.get(name) for space, name in self._borrowed],
        ]

    def _own(self, module: str) -> bool:
        """Whether a module belongs to the forecaster's tree, and was imported."""
        top, own = module.partition(".")[0], self._start.name.partition(".")[0]
        known = sys.modules.get(module)
        return getattr(known, "__spec__", None) is not None and (top == own or {top, own} <= TOPS)

    def _file(self, name: str) -> File:
        if name not in self._files:
            if name not in sys.modules:
                raise ReplacedError(f"{name} is not imported")
            self._files[name] = File.of(sys.modules[name])
            self._spaces.append(vars(sys.modules[name]))
        return self._files[name]

    def _class(self, cls: type, only: tuple[str, ...] | None = None) -> None:
        """Proves a class of the tree, its bases, and all that its methods use."""
        if cls in self._seen:
            return
        self._seen.add(cls)
        file = self._file(cls.__module__)
        if cls.__name__ not in file.codes or vars(file.module).get(cls.__name__) is not cls:
            raise ReplacedError(f"{cls.__name__} is not the class that {file.name} defines")
        self._spaces.append(vars(cls))
        body = file.codes[cls.__name__]
        for name, code in File.inside(body).items():
            if name in only if only else name != "__init__" and not name.startswith("<"):
                self._function(vars(cls).get(name), code, file, f"{cls.__name__}.{name}")
        if only is None:
            self._classes.append((cls, bound_in(body)))
        self._bases(cls, 1)

    def _bases(self, cls: type, start: int = 0) -> None:
        for base in cls.__mro__[start:-1]:
            if self._own(base.__module__):
                self._class(base)
            elif base not in self._seen:
                self._seen.add(base)
                if base not in SHARED_BASES:
                    self._spaces.append(vars(base))
                self._classes.append((base, None))

    def _function(self, value: Any, code: types.CodeType, file: File, name: str) -> None:
        found = function_of(value, code)
        if found is None or found.__globals__ is not vars(file.module):
            raise ReplacedError(f"{name} was replaced")
        if found in self._seen:
            return
        self._seen.add(found)
        self._functions.append(found)
        self._globals(names_in(code), file)

    def _globals(self, names: frozenset[str], file: File) -> None:
        """All that a function with these names finds in its file's module."""
        self._used |= names
        for used in sorted(names & vars(file.module).keys()):
            self._global(used, file, names)

    def _global(self, name: str, file: File, names: frozenset[str]) -> None:
        """What a function finds under the name of a global in its file; ``names`` are all that it spells out."""
        value = vars(file.module)[name]
        if name in file.codes and (name not in file.imports or function_of(value, file.codes[name]) is not None):
            if isinstance(value, type):
                self._class(value)
            else:
                self._function(value, file.codes[name], file, f"{file.name}.{name}")
        elif name in file.imports:
            home, attribute = file.imports[name]
            if value is not _at(home, attribute):
                raise ReplacedError(f"{file.name}.{name} was replaced")
            if attribute is not None and self._own(home):
                self._global(attribute, self._file(home), frozenset())
            else:
                self._external(home, attribute, value, names)
        elif star := next((star for star in file.stars if _at(star, name) is value), None):
            if (file.name, name) in self._seen:  # two files may hand names to each other
                return
            self._seen.add((file.name, name))
            if self._own(star):
                self._global(name, self._file(star), frozenset())
            else:
                self._external(star, name, value, names)
        elif name not in file.names and name not in GIVEN:
            raise ReplacedError(f"{file.name}.{name} was added")

    def _external(self, home: str, attribute: str | None, value: Any, names: frozenset[str]) -> None:
        """A name of another package, and where it is a module, the names in it that may be used."""
        package = home.partition(".")[0]
        if getattr(sys.modules.get(package), "__spec__", None) is None:  # put together by hand, as a stand-in is
            return
        if isinstance(value, types.ModuleType):
            space = vars(value)
            for name in sorted(names & space.keys()):
                if (home, name) not in self._seen:
                    self._seen.add((home, name))
                    self._borrowed.append((space, name))
                    self._external(value.__name__, name, space[name], names)
        elif is_foreign(value, package):
            raise ReplacedError(f"{home}.{attribute} was replaced")
        elif isinstance(value, type) and issubclass(value, torch.distributions.Distribution):
            self._bases(value)


def _at(home: str, attribute: str | None) -> Any:
    """What an import finds now."""
    module = sys.modules.get(home)
    if attribute is None or module is None:
        return module
    return vars(module).get(attribute, sys.modules.get(f"{home}.{attribute}"))
