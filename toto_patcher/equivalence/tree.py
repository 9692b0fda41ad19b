"""Imports one vendored Toto tree by the path it has, and proves what was imported. Only for child processes."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from toto_patcher.equivalence.case import EXOGENOUS, VARIATE_LABELS
from toto_patcher.errors import UnknownSourceError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.syntax import parse_syntax

MODEL, FORECASTER, SERIES = "Toto", "TotoForecaster", "MaskedTimeseries"


@dataclass(frozen=True)
class Tree:
    """An imported tree: the classes that a forecast needs.

    Attributes:
        root: the checkout's folder, resolved.
        import_root: the folder that was put on ``sys.path``.
    """

    root: Path
    import_root: Path
    model: Any
    forecaster: Any
    series: Any

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
        return found

    def unload(self) -> None:
        """Forgets the tree, so that another one can be imported in this process."""
        for name in self.modules():
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
    places = {name: _place(checkout, name) for name in (MODEL, FORECASTER, SERIES)}
    import_root = _import_root(checkout, list(places.values()))
    _skip_estimators()
    sys.path.insert(0, str(import_root))
    importlib.invalidate_caches()
    classes = {}
    for name, path in places.items():
        dotted = ".".join((root / path).relative_to(import_root).with_suffix("").parts)
        module = importlib.import_module(dotted)
        if not _is_within(module.__file__, root):
            raise UnknownSourceError(f"importing {dotted} gave another package, from {module.__file__}", path=path)
        classes[name] = getattr(module, name)
    return Tree(root, import_root, classes[MODEL], classes[FORECASTER], classes[SERIES])


def _place(checkout: Checkout, name: str) -> PurePosixPath:
    found = checkout.definitions(name)
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
    A folder whose name is no identifier cannot be part of a dotted name, so the import root lies below it.
    """
    for path in places:
        for package in _absolute_imports(checkout, path):
            for parent in list(path.parents)[:-1]:
                if (checkout.root / parent / package).is_dir():
                    return checkout.root / parent
    folder = checkout.root
    for part in places[0].parts[:-1]:
        if not part.isidentifier():
            folder = checkout.root.joinpath(*places[0].parts[: places[0].parts.index(part) + 1])
    return folder


def _absolute_imports(checkout: Checkout, path: PurePosixPath) -> list[str]:
    module = parse_syntax(checkout.read(path), path)
    nodes = [node for node in ast.walk(module) if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module]
    return [str(node.module).split(".")[0] for node in nodes]


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
