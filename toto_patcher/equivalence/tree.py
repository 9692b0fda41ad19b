"""Imports one vendored Toto tree by the path it has, and proves what was imported. Only for child processes."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from toto_patcher.equivalence.case import EXOGENOUS, SEQUENCE_FIRST, VARIATE_LABELS
from toto_patcher.equivalence.direct_model import direct
from toto_patcher.errors import UnknownSourceError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.reach import definitions
from toto_patcher.patching.syntax import parse_syntax

MODEL, BACKBONE, FORECASTER, SERIES = "Toto", "TotoBackbone", "TotoForecaster", "MaskedTimeseries"
XFORMERS = "XFORMERS_AVAILABLE"


@dataclass(frozen=True)
class Tree:
    """An imported tree: the classes that a forecast needs.

    Attributes:
        root: the checkout's folder, resolved.
        import_root: the folder that was put on ``sys.path``.
        model: the class ``Toto``, or what stands in for it where the tree has none.
        bare: names of packages whose own code was not run, for it needs what is not here.
    """

    root: Path
    import_root: Path
    model: Any
    forecaster: Any
    series: Any
    bare: tuple[str, ...] = ()

    def modules(self) -> dict[str, types.ModuleType]:
        """Loaded modules that come from this tree."""
        # Compared as text: resolving the path of every loaded module takes most of a second.
        inside = str(self.root) + os.sep
        return {
            name: module
            for name, module in list(sys.modules.items())
            if (getattr(module, "__file__", None) or "").startswith(inside)
        }

    def fingerprints(self) -> dict[str, str]:
        """Path relative to the root -> sha256, for every file of the tree that was imported."""
        files = {Path(str(module.__file__)) for module in self.modules().values()}
        return {file.relative_to(self.root).as_posix(): fingerprint(file.read_bytes()) for file in sorted(files)}

    def abilities(self) -> list[str]:
        """What this release can do beyond the first: ``exogenous``, ``variate-labels``."""
        found = []
        if "future_exogenous_variables" in inspect.signature(self.forecaster.forecast).parameters:
            found.append(EXOGENOUS)
        backbone = sys.modules[self.forecaster.__module__].__dict__.get("TotoBackbone")
        if hasattr(backbone, "enable_variate_labels"):
            found.append(VARIATE_LABELS)
        if any(
            re.search(rb"\bmemory_efficient_attention\(", Path(file).read_bytes()) for file in self._attention_files()
        ):
            found.append(SEQUENCE_FIRST)
        return found

    def _attention_files(self) -> set[str]:
        """The files that say whether xformers is there."""
        return {str(module.__file__) for module in self.modules().values() if XFORMERS in vars(module)}

    def unload(self) -> None:
        """Forgets the tree, so that another one can be imported in this process."""
        for name in {*self.modules(), *self.bare}:
            del sys.modules[name]
        sys.path.remove(str(self.import_root))
        importlib.invalidate_caches()


def load(root: Path) -> Tree:
    """Imports the model, the forecaster and the series of the tree at ``root``.

    Raises:
        UnknownSourceError: a class is missing, or Python imported it from somewhere else.
    """
    root = root.resolve()
    checkout = Checkout.open(root)
    places = {name: _place(checkout, name) for name in (BACKBONE, FORECASTER, SERIES)}
    wrappers = definitions(checkout, MODEL)
    if wrappers:
        places[MODEL] = wrappers[0].path
    import_root = _import_root(checkout, list(places.values()))
    _skip_estimators()
    sys.path.insert(0, str(import_root))
    importlib.invalidate_caches()
    bare: list[str] = []
    classes = {}
    for name, path in places.items():
        dotted = ".".join((root / path).relative_to(import_root).with_suffix("").parts)
        module = _imported(dotted, import_root, bare)
        if not _is_within(module.__file__, root):
            raise UnknownSourceError(f"importing {dotted} gave another package, from {module.__file__}", path=path)
        classes[name] = getattr(module, name)
    model = classes.get(MODEL) or direct(classes[BACKBONE])
    return Tree(root, import_root, model, classes[FORECASTER], classes[SERIES], tuple(bare))


def _imported(dotted: str, import_root: Path, bare: list[str]) -> types.ModuleType:
    """A module; without the code of the packages around it, where that asks for something that is not installed.

    A package that hands on many models imports what all of them need. None of it takes part in a forecast.
    """
    for count in range(dotted.count("."), 0, -1):
        name = dotted.rsplit(".", count)[0]
        try:
            importlib.import_module(name)
        except ImportError:
            package = types.ModuleType(name)
            package.__path__ = [str(import_root.joinpath(*name.split(".")))]
            sys.modules[name] = package
            bare.append(name)
    return importlib.import_module(dotted)


def _place(checkout: Checkout, name: str) -> PurePosixPath:
    found = definitions(checkout, name)
    if not found:
        raise UnknownSourceError(
            f"no file under the root defines class {name}",
            path=checkout.root,
            hint="Is the root a Toto 1.0 checkout? Fetch one with: toto-patch vendor",
        )
    return found[0].path


def _import_root(checkout: Checkout, places: list[PurePosixPath]) -> Path:
    """The folder from which the tree's own absolute imports resolve; without any, the root itself.

    The first public revision imports ``from model.attention import ...``: there it is the folder that holds ``model/``.
    A folder whose name is no identifier cannot be part of a dotted name, so the import root lies below it. Where the
    root is a package itself, its own relative imports climb to it, and it is imported from the folder around it.
    """
    if any(_climbs_to_root(checkout, path) for path in places):
        return checkout.root.parent
    for path in places:
        for dotted in _absolute_imports(checkout, path):
            for parent in list(path.parents)[:-1]:
                module = checkout.root.joinpath(parent, *dotted.split("."))
                # The whole name: a folder of the tree may be called as a library is.
                if module.is_dir() or module.with_suffix(".py").is_file():
                    return checkout.root / parent
    folder = checkout.root
    for part in places[0].parts[:-1]:
        if not part.isidentifier():
            folder = checkout.root.joinpath(*places[0].parts[: places[0].parts.index(part) + 1])
    return folder


def _climbs_to_root(checkout: Checkout, path: PurePosixPath) -> bool:
    """Whether a relative import of a file has the root as its package: ``from ..model`` in ``inference/x.py``."""
    module = parse_syntax(checkout.read(path), path)
    levels = [node.level for node in ast.walk(module) if isinstance(node, ast.ImportFrom)]
    return bool(levels) and max(levels) >= len(path.parts)


def _absolute_imports(checkout: Checkout, path: PurePosixPath) -> list[str]:
    module = parse_syntax(checkout.read(path), path)
    nodes = [node for node in ast.walk(module) if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module]
    return [str(node.module) for node in nodes]


def _is_within(file: str | None, root: Path) -> bool:
    return file is not None and Path(file).resolve().is_relative_to(root.resolve())


def _skip_estimators() -> None:
    """Lets ``gluonts.torch.distributions`` be imported without the training code that its parent package pulls in.

    ``gluonts.torch`` imports its estimators and with them Lightning: seconds, and nothing that a forecast calls. A bare
    package with the same search path gives the same distributions and scalers.
    """
    if "gluonts.torch" in sys.modules:
        return
    importlib.import_module("gluonts")
    spec = importlib.util.find_spec("gluonts.torch")
    if spec is not None and spec.submodule_search_locations:
        package = types.ModuleType("gluonts.torch")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["gluonts.torch"] = package
