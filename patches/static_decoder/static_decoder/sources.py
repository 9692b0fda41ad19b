"""What a module's file says: the code of its functions and classes, and what its imports stand for."""

from __future__ import annotations

import dis
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

NEUTRAL = ("torch.utils._contextlib", "torch._dynamo.")
"""Where ``torch.no_grad()``, ``torch.compile`` and ``torch.compiler.disable`` make functions of functions."""
WRAPPERS = ("torch", "contextlib", "functools", "typing_extensions")
"""Packages whose decorators other packages put around their functions."""

STAR = "*"


class File:
    """What the file of an imported module defines and imports: told from its code, not from what is there now.

    Attributes:
        codes: of the functions and classes at its top.
        names: all names that it binds or reads at its top.
        imports: what each imported name stands for: a module and an attribute of it, or ``None`` for the module.
        stars: modules from which it imports everything.
    """

    _known: dict[str, tuple[Any, File]] = {}  # noqa: RUF012 - one for the process

    @classmethod
    def of(cls, module: types.ModuleType) -> File:
        """The file of a module, read once for each time that it is imported."""
        spec, file = cls._known.get(module.__name__, (None, None))
        if file is None or spec is not module.__spec__:
            file = cls(module)
            cls._known[module.__name__] = module.__spec__, file
        return file

    def __init__(self, module: types.ModuleType) -> None:
        self.name, self.module = module.__name__, module
        loader: Any = getattr(module.__spec__, "loader", None)
        code = loader.get_code(self.name) if hasattr(loader, "get_code") else None
        self.codes = {} if code is None else self.inside(code)
        self.names = frozenset(() if code is None else code.co_names)
        found = [] if code is None else list(_imports(code, module))
        self.imports = {name: home for name, home in found if name != STAR}
        self.stars = [home for name, (home, _) in found if name == STAR]

    @staticmethod
    def inside(code: types.CodeType) -> dict[str, types.CodeType]:
        """The functions and classes in the code of a module or a class."""
        return {const.co_name: const for const in code.co_consts if isinstance(const, types.CodeType)}


def _imports(code: types.CodeType, module: types.ModuleType) -> Iterator[tuple[str, tuple[str, str | None]]]:
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "EXTENDED_ARG", "NOP")]
    home, wanted = "", None
    for index, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            level, wanted = steps[index - 2].argval, steps[index - 1].argval
            package = str(vars(module).get("__package__") or "")
            home = importlib.util.resolve_name("." * level + step.argval, package) if level else step.argval
            if wanted == (STAR,):
                yield STAR, (home, None)
            elif not wanted:  # "import a.b" binds a; with "as" it binds what the last part is
                stored = next(later.argval for later in steps[index + 1 :] if later.opname.startswith("STORE_"))
                yield stored, (stored if stored == home.partition(".")[0] else home, None)
        elif step.opname == "IMPORT_FROM" and wanted:
            yield steps[index + 1].argval, (home, step.argval)


def names_in(code: types.CodeType) -> frozenset[str]:
    """The globals and attributes that a function's code spells out, inner functions' too."""
    inner = (names_in(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return frozenset(code.co_names).union(*inner)


def bound_in(code: types.CodeType) -> frozenset[str]:
    """The names that a class's body binds, its fields too: Python keeps those as texts, from 3.14 in a function."""
    notes = [const for name, const in File.inside(code).items() if name.startswith("__annotate")]
    texts = (const for part in (code, *notes) for const in part.co_consts if isinstance(const, str))
    return frozenset((*code.co_names, *texts))


def function_of(value: Any, code: types.CodeType) -> types.FunctionType | None:
    """The function that has this code, also inside a decorator of torch's that leaves what it computes as it is."""
    value = _bare(value)
    if not isinstance(value, types.FunctionType):
        return None
    if value.__code__ == code:
        return value
    if not str(value.__globals__.get("__name__")).startswith(NEUTRAL):
        return None
    return next(filter(None, (function_of(part, code) for part in _enclosed(value))), None)


def is_foreign(value: Any, package: str) -> bool:
    """Whether somebody else put a function or class into a package's namespace."""
    value = _bare(value)
    if isinstance(value, types.MethodType):
        return is_foreign(value.__func__, package)
    if isinstance(value, types.FunctionType):
        home = str(value.__globals__.get("__name__")).partition(".")[0]
        inner = _enclosed(value)
        return home != package and (home not in WRAPPERS or not inner or any(is_foreign(f, package) for f in inner))
    home = (value if isinstance(value, type) else type(value)).__module__.partition(".")[0]
    return home not in (package, "torch", "numpy", "typing", "builtins") and home not in sys.stdlib_module_names


def _bare(value: Any) -> Any:
    value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    return value.fget if isinstance(value, property) else value


def _enclosed(function: types.FunctionType) -> list[types.FunctionType]:
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return [part for part in cells if isinstance(part, types.FunctionType)]
