"""Which Toto is imported, by what name, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toto_patcher.errors import NoCheckoutError, UnknownSourceError, UsageError
from toto_patcher.runtime import vendored

from .conftest import python

LOADED = """
import json, logging, sys
logging.basicConfig(level=logging.INFO)
from toto_patcher.runtime import vendored
tree = vendored.load(*sys.argv[1:])
names = [tree.model.__module__, tree.forecaster.__module__, tree.series.__module__]
print(json.dumps([str(tree.root), tree.profile, tree.installed, tree.exogenous, names]))
"""
NAMES = ["toto.model.toto", "toto.inference.forecaster", "toto.data.util.dataset"]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty current folder, and a process that has loaded nothing."""
    monkeypatch.setattr(vendored, "_loaded", None)
    monkeypatch.delenv("TOTO_PATCH_ROOT", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "toto"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    yield tmp_path


def test_importing_the_runtime_imports_neither_torch_nor_libcst(tmp_path: Path) -> None:
    code = (
        "import json, sys, toto_patcher.runtime as r; names = dir(r); "
        "print(json.dumps([[n for n in ('torch', 'numpy', 'libcst') if n in sys.modules], names]))"
    )
    imported, names = python("-c", code, cwd=tmp_path)
    assert imported == []
    assert {"TotoPipeline", "Forecast", "TotoMonitor", "compile_config", "standard_warmup"} <= set(names)


def test_a_tree_at_vendor_toto_is_found(toto_release: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "toto").symlink_to(toto_release("0.1.3"))
    (tmp_path / "below").mkdir()
    root, profile, installed, exogenous, names = python("-c", LOADED, cwd=tmp_path / "below")
    assert (root, profile, installed, exogenous) == (str(toto_release("0.1.3").resolve()), None, False, False)
    assert names == NAMES


def test_without_a_tree_the_installed_package_is_taken(toto_release: Callable[[str], Path], tmp_path: Path) -> None:
    root, _, installed, exogenous, names = python("-c", LOADED, cwd=tmp_path, path=toto_release("0.2.0"))
    assert (root, installed, exogenous, names) == (str(toto_release("0.2.0").resolve()), True, True, NAMES)


def test_a_package_that_was_renamed_and_nested(patched: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "app" / "_internal").mkdir(parents=True)
    shutil.copytree(patched("full-graph") / "toto", tmp_path / "app" / "_internal" / "backbone")
    _, profile, _, _, names = python("-c", LOADED, tmp_path, cwd=tmp_path)
    assert profile == "full-graph"
    assert names == [name.replace("toto.", "app._internal.backbone.", 1) for name in NAMES]


def test_the_eager_profile_is_known_and_a_stale_record_is_not_believed(
    patched: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(patched("eager"), tmp_path / "tree")
    (tmp_path / "tree" / ".toto-patch").mkdir()
    (tmp_path / "tree" / ".toto-patch" / "state.json").write_text(json.dumps({"profile": "full-graph"}))
    assert python("-c", LOADED, "tree", cwd=tmp_path)[1] == "eager"


def test_no_tree_at_all(alone: Path) -> None:
    with pytest.raises(NoCheckoutError, match="no Toto checkout found"):
        vendored.load()


def test_another_package_on_the_path_is_refused(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone / "site" / "toto").mkdir(parents=True)
    (alone / "site" / "toto" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(alone / "site")
    with pytest.raises(UnknownSourceError, match=r"site/toto is not Datadog's Toto 1\.0"):
        vendored.load()


def test_another_package_that_is_imported_is_refused(
    alone: Path, toto_release: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = types.ModuleType("toto")
    stranger.__file__ = "/somewhere/else/toto/__init__.py"
    monkeypatch.setitem(sys.modules, "toto", stranger)
    root = toto_release("0.2.0")
    before = list(sys.path)
    with pytest.raises(UnknownSourceError, match=r"/somewhere/else/toto/__init__\.py") as caught:
        vendored.load(root)
    assert str(root.resolve()) in str(caught.value)
    assert sys.path == before


def test_a_folder_without_toto_is_refused(alone: Path) -> None:
    with pytest.raises(UnknownSourceError, match=r"no file under .* defines class TotoForecaster"):
        vendored.load(alone)


def test_a_folder_that_does_not_exist_is_refused(alone: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        vendored.load(alone / "nowhere")


def test_a_half_patched_tree_is_refused(alone: Path) -> None:
    (alone / ".toto-patch").mkdir()
    (alone / ".toto-patch" / "journal.json").write_text("{}")
    with pytest.raises(UsageError, match="patching was interrupted"):
        vendored.load(alone)


def test_the_first_public_revision_is_imported_from_the_folder_that_holds_model(alone: Path) -> None:
    files = {"forecaster": "class TotoForecaster:\n", "dataset": "class MaskedTimeseries(NamedTuple):\n"}
    (alone / "my-copy" / "toto" / "model").mkdir(parents=True)
    (alone / "my-copy" / "toto" / "model" / "toto.py").write_text("from model.x import y\nclass Toto(Module):\n")
    for name, text in files.items():
        (alone / "my-copy" / "toto" / f"{name}.py").write_text("from model.x import y\n" + text)
    places = vendored._places(alone)
    assert vendored._import_root(alone, list(places.values())) == alone / "my-copy" / "toto"
    (alone / "my-copy" / "toto" / "forecaster.py").write_text("from .model.x import y\n" + files["forecaster"])
    (alone / "my-copy" / "toto" / "dataset.py").write_text(files["dataset"])
    (alone / "my-copy" / "toto" / "model" / "toto.py").write_text("class Toto(Module):\n")
    assert vendored._import_root(alone, list(places.values())) == alone / "my-copy"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_a_user_without_a_name_and_a_home_can_import_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was started with --user 54321: GluonTS looks for a home when it is imported."""
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setuid(54321)
            with vendored._home():
                Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser()  # as GluonTS does it
            status = 2 if "XDG_DATA_HOME" in os.environ else 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
