"""The wheel alone is enough: installed in a fresh environment, in an empty folder, with the repository out of reach.

The base dependencies, torch is not among them, are fetched from the package index once and kept as wheels in the user's
cache folder; later runs need no network.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from toto_patcher.patching import series
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.vendoring.releases import cache_folder, pinned_release
from toto_patcher.supported import install_hint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
NAMES_OF_SCRIPTS = {path.stem for path in (REPOSITORY / "toto_patcher" / "compat").glob("*.py")}
"""Modules of top-level names, which existing scripts import."""


def pip(python: str | Path, *arguments: str | Path, wheels: Path | None = None) -> None:
    """Runs pip, offline if it is given a folder of wheels (the environments it builds in are then offline too)."""
    offline = {} if wheels is None else {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd="/", env={**os.environ, **offline}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of what the project depends on and is built with, kept in the user's cache for this pyproject.toml."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"], "editables"]
    key = fingerprint(json.dumps([wanted, sys.version_info[:2], platform.machine()]).encode())[:16]
    cache = cache_folder()
    folder = (tmp_path_factory.mktemp("cache") if cache is None else cache.parent) / f"test-wheelhouse-{key}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        filling = Path(tempfile.mkdtemp(prefix=".wheelhouse.", dir=folder.parent))
        pip(sys.executable, "wheel", "--wheel-dir", filling, *wanted)
        try:
            filling.rename(folder)
        except OSError:  # another worker was faster
            shutil.rmtree(filling)
    return folder


@pytest.fixture(scope="module")
def wheel(wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", folder, REPOSITORY, wheels=wheelhouse)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip(folder / "bin" / "python", "install", wheel, wheels=wheelhouse)
    return folder


def run(environment: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TOTO_PATCH_ROOT")}
    program = environment / "bin" / command[0]
    return subprocess.run([program, *command[1:]], cwd=cwd, env=clean, capture_output=True, text=True, check=False)


def listed(environment: Path, cwd: Path) -> object:
    done = run(environment, cwd, "toto-patch", "--json", "list")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_wheel_carries_the_patches_and_no_toto(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in (patch.folder for patch in series.load().patches):
        for source in folder.glob("*.py"):
            assert f"toto_patcher/_patches/{folder.name}/{source.name}" in names
    assert {"toto_patcher/py.typed", "toto_patcher/patching/vendoring/releases.json"} <= names
    modules = {f"{name}.py" for name in NAMES_OF_SCRIPTS}
    assert "toto_compile_config.py" in modules
    assert {name.split("/")[0].split("-")[0] for name in names} == {"toto_patcher", "toto_patch", *modules}
    embedded = ("config.json", "model.safetensors", "training.json", "README.md")
    assert {f"toto_patcher/runtime/embedded/{name}" for name in embedded} <= names
    assert not [name for name in names if "__pycache__" in name]


def imported_from(environment: Path, cwd: Path) -> dict[str, Path | None]:
    """Name -> whether the environment or the copy of an editable install holds the module that Python imports."""
    found = {}
    for name in NAMES_OF_SCRIPTS:
        where = run(environment, cwd, "python", "-c", f"import {name}; print({name}.__file__)")
        assert where.returncode == 0, where.stderr
        folders = (environment, cwd / "copy")
        found[name] = next((folder for folder in folders if Path(where.stdout.strip()).is_relative_to(folder)), None)
    return found


def test_the_wheel_patches_and_reverts_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    where = run(environment, tmp_path, "python", "-c", "import toto_patcher; print(toto_patcher.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(environment), "not the repository's own package"
    assert run(environment, tmp_path, "python", "-c", "import torch").returncode != 0
    assert imported_from(environment, tmp_path) == dict.fromkeys(NAMES_OF_SCRIPTS, environment)
    assert run(environment, tmp_path, "toto-patch", "--help").returncode == 0
    assert listed(environment, tmp_path)

    tree = tmp_path / "vendor" / "toto"
    for status, *command in (
        (0, "vendor"),
        (1, "verify-only"),
        (0, "apply", "--backup"),
        (0, "verify-only"),
        (0, "revert"),
        (1, "verify-only"),
    ):
        done = run(environment, tmp_path, "toto-patch", *command)
        assert done.returncode == status, f"{command}: {done.stdout}{done.stderr}"
        if command[0] == "apply":
            assert originals(tree) != pinned_release("0.2.0").files
    assert originals(tree) == pinned_release("0.2.0").files


def test_the_wheel_carries_the_scripts_as_commands(environment: Path, tmp_path: Path) -> None:
    """Started by their path, with the environment's folder not on PATH: each finds the toto-patch beside it."""
    tree = tmp_path / "vendor" / "toto"
    for command, told in (
        ("toto-patch-pre-deploy", "pre-deploy: NOT READY"),
        ("toto-patch-apply-and-test", "apply-and-test: FAILED: apply"),
    ):
        done = run(environment, tmp_path, command, "--root", str(tree))
        assert done.returncode == 2 and told in done.stderr, done.stdout + done.stderr
    assert run(environment, tmp_path, "toto-patch", "vendor").returncode == 0
    assert run(environment, tmp_path, "toto-patch-pre-deploy").returncode == 1
    # Here is no torch: the second step says so, and the originals are back.
    tested = run(environment, tmp_path, "toto-patch-apply-and-test", "--quick")
    assert (tested.returncode, "the originals are back" in tested.stderr) == (2, True), tested.stderr
    assert install_hint("runtime") in tested.stdout
    assert originals(tree) == pinned_release("0.2.0").files
    assert run(environment, tmp_path, "toto-patch", "apply", "--backup").returncode == 0
    ready = run(environment, tmp_path, "toto-patch-pre-deploy")
    assert (ready.returncode, ready.stdout.splitlines()[-1]) == (0, "pre-deploy: ready")
    assert run(environment, tmp_path, "toto-patch-toggle-compile", "disable").returncode == 0
    assert "TOTO_DISABLE_COMPILE=1" in (tmp_path / ".env.compile").read_text()
    status = run(environment, tmp_path, "toto-patch-toggle-compile", "status")
    assert status.returncode == 0 and ", torch -, numpy -" in status.stdout


def originals(tree: Path) -> dict[object, str]:
    return {
        path: fingerprint((tree / path).read_bytes())
        for path in pinned_release("0.2.0").files
        if (tree / path).exists()
    }


def test_an_editable_install_lists_the_same_patches(environment: Path, wheelhouse: Path, tmp_path: Path) -> None:
    expected = listed(environment, tmp_path)
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".cache", "vendor", ".*_cache")
    shutil.copytree(REPOSITORY, copy, ignore=ignored)
    second = tmp_path / "venv"
    shutil.copytree(environment, second, symlinks=True)
    # pip, started as a module, is the copy's own, and writes the console script anew.
    pip(second / "bin" / "python", "install", "--no-deps", "--force-reinstall", "--editable", copy, wheels=wheelhouse)
    where = run(second, tmp_path, "python", "-c", "import toto_patcher; print(toto_patcher.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(copy)
    assert listed(second, tmp_path) == expected
    assert imported_from(second, tmp_path) == dict.fromkeys(NAMES_OF_SCRIPTS, copy)
    assert run(second, tmp_path, "toto-patch-toggle-compile", "status").returncode == 0
    moved = run(
        second, tmp_path, "python", "-c", "from toto_patcher.patching import series; print(series.patches_folder())"
    )
    assert moved.stdout.strip() == str(copy / "patches"), "an edit of a patch takes effect at once"
