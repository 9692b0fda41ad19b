"""Finds and imports the Toto that forecasts, without libcst, and proves which one it was.

One process holds one tree: modules of two trees would have the same names.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toto_patcher import roots
from toto_patcher.errors import NoCheckoutError, UnknownSourceError, UsageError

log = logging.getLogger(__name__)

MODEL, FORECASTER, SERIES = "Toto", "TotoForecaster", "MaskedTimeseries"
STATE_FILE = Path(".toto-patch") / "state.json"
UNFINISHED = (Path(".toto-patch") / "journal.json", Path(".toto-patch") / "undo.json")
_SKIPPED = frozenset({"__pycache__", "site-packages", "node_modules", "build", "dist", "test", "tests"})


@dataclass(frozen=True)
class Vendored:
    """An imported Toto.

    Attributes:
        root: the checkout's folder; of an installed package, the folder that holds it.
        model: upstream's class ``Toto``.
        forecaster: upstream's ``TotoForecaster``.
        series: upstream's ``MaskedTimeseries``.
        profile: "full-graph", "graph-breaks", "eager", or ``None`` where it is not patched.
        installed: it is a package that pip installed, not a vendored tree.
    """

    root: Path
    model: Any
    forecaster: Any
    series: Any
    profile: str | None
    installed: bool = False

    @property
    def decodes(self) -> bool:
        """Whether its forecaster decodes by itself and has a ``compile`` of its own."""
        return hasattr(self.forecaster, "compile")

    @property
    def exogenous(self) -> bool:
        """Whether this release takes known future covariates (0.2.0 does)."""
        return "future_exogenous_variables" in inspect.signature(self.forecaster.forecast).parameters


_loaded: Vendored | None = None
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock()))


def load(root: Path | str | None = None) -> Vendored:
    """Imports the Toto at ``root``, or the one that ``roots.find`` finds, or the package ``toto`` that is installed.

    The tree's folder stays first on ``sys.path``: its own code imports more of itself later. Without ``root``, a
    process that has a tree already keeps it.

    Raises:
        UsageError: there is none, or this process has imported another.
        UnknownSourceError: a class is missing, or another package has the name.
    """
    global _loaded
    with _lock:
        if _loaded is not None and root is None:
            return _loaded
        try:
            folder = roots.find(None if root is None else Path(root), below=False).resolve()
        except NoCheckoutError as error:
            found = _import_installed(error)
        else:
            if _loaded is not None and _loaded.root != folder:
                raise UsageError(
                    f"this process has imported the Toto in {_loaded.root}, and cannot import the one in {folder} too",
                    hint="Use one tree in one process; start another process for the other.",
                )
            if any((folder / name).exists() for name in UNFINISHED):
                raise UsageError(
                    "is being patched, or patching was interrupted",
                    path=folder,
                    hint="Run toto-patch recover, then start again.",
                )
            found = _loaded or _import(folder, folder, installed=False)
        _loaded = found
        return found


def _import_installed(missing: NoCheckoutError) -> Vendored:
    """The package ``toto`` on the path, if it is Toto 1.0."""
    try:
        spec = importlib.util.find_spec("toto")
    except ValueError:  # somebody put a module of this name where modules are kept, without a spec
        spec = None
    places = [] if spec is None else list(spec.submodule_search_locations or [spec.origin or ""])
    if not places:
        raise missing
    package = Path(places[0]).resolve()
    if not package.is_dir() or not all(_definitions(package, name) for name in (MODEL, FORECASTER, SERIES)):
        raise UnknownSourceError(
            f"no Toto checkout found, and the package `toto` in {package} is not Datadog's Toto 1.0",
            path=package,
            hint=missing.hint,
        )
    log.info("no vendored Toto found: using the installed package in %s", package)
    return _import(package.parent, package, installed=True)


def _import(root: Path, searched: Path, *, installed: bool) -> Vendored:
    places = _places(searched)
    start = root if installed else _import_root(root, list(places.values()))
    names = {name: ".".join(path.relative_to(start).with_suffix("").parts) for name, path in places.items()}
    for dotted in names.values():
        _refuse_stranger(dotted.partition(".")[0], searched)
    added = not installed and sys.path[:1] != [str(start)]
    if added:
        sys.path.insert(0, str(start))
        importlib.invalidate_caches()
    try:
        classes = {}
        _delay_estimators()
        for name, dotted in names.items():
            with _home():
                module = importlib.import_module(dotted)
            if not _within(getattr(module, "__file__", None), searched):
                raise UnknownSourceError(
                    f"importing {dotted} from {searched} gave another package, from {module.__file__}",
                    path=places[name],
                    hint="Uninstall the other package, or take it off the path.",
                )
            classes[name] = getattr(module, name)
    except BaseException:
        if added:
            sys.path.remove(str(start))
        raise
    profile = _profile(root, classes[FORECASTER])
    return Vendored(root, classes[MODEL], classes[FORECASTER], classes[SERIES], profile, installed)


def _places(folder: Path) -> dict[str, Path]:
    """The file that defines each class; of several, the one nearest to the forecaster's."""
    found: dict[str, Path] = {}
    for name in (FORECASTER, MODEL, SERIES):
        files = _definitions(folder, name)
        if not files:
            raise UnknownSourceError(
                f"no file under {folder} defines class {name}",
                path=folder,
                hint="Is it a Toto 1.0 checkout? Fetch one with: toto-patch vendor",
            )
        first = found.get(FORECASTER, files[0])
        found[name] = min(files, key=lambda file: -len(Path(os.path.commonpath([file, first])).parts))
    return found


def _definitions(folder: Path, name: str) -> list[Path]:
    pattern = re.compile(rb"(?:\A|[\r\n])class[ \t]+" + name.encode() + rb"[ \t]*[(:]")
    found = []
    for parent, subfolders, files in os.walk(folder):
        subfolders[:] = sorted(sub for sub in subfolders if sub not in _SKIPPED and not sub.startswith("."))
        for file in sorted(files):
            path = Path(parent, file)
            if (
                file.endswith(".py")
                and not file.startswith(".")
                and path.is_file()
                and pattern.search(path.read_bytes())
            ):
                found.append(path)
    return found


def _import_root(root: Path, places: list[Path]) -> Path:
    """The folder from which the tree's own absolute imports resolve; without any, the root itself.

    The first public revision imports ``from model.attention import ...``: there it is the folder that holds ``model/``.
    A folder whose name is no identifier cannot be part of a dotted name, so the import root lies below it.
    """
    for path in places:
        packages = re.findall(rb"(?m)^[ \t]*from[ \t]+([A-Za-z_]\w*)", path.read_bytes())
        for package in packages:
            for parent in path.parents:
                if parent == root:
                    break
                if (parent / package.decode()).is_dir():
                    return parent
    start = root
    for parent in reversed(places[0].relative_to(root).parents[:-1]):
        if not parent.name.isidentifier():
            start = root / parent
    return start


def _refuse_stranger(package: str, searched: Path) -> None:
    """Refuses a package of this name that is imported already and lies elsewhere."""
    module = sys.modules.get(package)
    if module is None:
        return
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    elsewhere = [str(place) for place in places if place and not _within(str(place), searched)]
    if elsewhere or not any(places):
        raise UnknownSourceError(
            f"a package `{package}` is imported already from {elsewhere[0] if elsewhere else 'nowhere'}; "
            f"the one in {searched} cannot be imported beside it",
            hint="Import it in another process, or take the other package off the path.",
        )


def _within(file: str | None, folder: Path) -> bool:
    return file is not None and (Path(file).is_relative_to(folder) or Path(file).resolve().is_relative_to(folder))


def _profile(root: Path, forecaster: Any) -> str | None:
    """The profile in force: what the classes can do, by the name that was recorded if the record agrees.

    Source is often committed without ``.toto-patch``, and edited after it; what the classes can do is the truth.
    """
    backbone = getattr(sys.modules[forecaster.__module__], "TotoBackbone", None)
    cache = getattr(sys.modules.get(getattr(backbone, "__module__", "")), "KVCache", None)
    if hasattr(forecaster, "_decoding"):
        able = "full-graph"
    elif hasattr(cache, "position"):
        able = "graph-breaks"
    elif hasattr(forecaster, "_sharing_prefill") or hasattr(backbone, "every_patch"):
        able = "eager"
    else:
        able = None
    recorded = _recorded(root)
    if recorded is not None and recorded != able:
        log.warning("%s says profile %s, but the source in %s is %s", STATE_FILE, recorded, root, able or "unpatched")
    return able


def _recorded(root: Path) -> str | None:
    """The profile that ``.toto-patch/state.json`` names."""
    try:
        state = json.loads((root / STATE_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    profile = state.get("profile") if isinstance(state, dict) else None
    return profile if isinstance(profile, str) else None


@contextlib.contextmanager
def _home() -> Iterator[None]:
    """GluonTS asks for the user's home when it is imported, and fails where a user id has neither HOME nor a name."""
    name = "XDG_DATA_HOME"
    try:
        Path("~").expanduser()
        homeless = False
    except RuntimeError:
        homeless = name not in os.environ
    if homeless:
        os.environ[name] = os.curdir
    try:
        yield
    finally:
        if homeless:
            os.environ.pop(name, None)


def _delay_estimators() -> None:
    """Lets ``gluonts.torch.distributions`` be imported without the training code that its parent package pulls in.

    ``gluonts.torch`` imports its estimators and with them Lightning: seconds, and nothing that a forecast calls. Here
    the package comes without its contents, and gets them when somebody asks for one of its names.
    """
    if "gluonts.torch" in sys.modules or importlib.util.find_spec("gluonts") is None:
        return
    spec = importlib.util.find_spec("gluonts.torch")
    if spec is None or spec.loader is None or not spec.submodule_search_locations:
        return
    package = importlib.util.module_from_spec(spec)
    loader = spec.loader

    def fill(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    package.__dict__["__getattr__"] = fill
    sys.modules["gluonts.torch"] = package
    setattr(sys.modules["gluonts"], "torch", package)  # noqa: B010 - as the import system does it
