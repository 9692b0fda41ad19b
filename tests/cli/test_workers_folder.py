"""The folder in which a user stands: nothing in it is imported, neither by a worker nor by what a worker starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_driver import REPOSITORY, environment

from toto_patcher.equivalence import python

SMALL = ("--device", "cpu", "--shape", "tiny", "--workload", "smoke", "--threads", "1", "--turns", "2", "--timed", "1")
COMMANDS = {
    "verify-only": ("verify-only", "--numerics", "--quick"),
    "bench": ("bench", *SMALL, "--baseline", "eager", "--mode", "eager"),
    "stress": ("stress", "--mode", "quick", "--device", "cpu", "--compile-mode", "eager", "--output", "out"),
    "accuracy": ("accuracy", "--quick", "--series", "co2", "--horizon", "8", "--context", "96"),
    "env test": ("env", "test"),
}
# The installed command, which has no current folder on its path.
COMMAND = "import sys; sys.path[:1] = []; from toto_patcher.cli import main; main()"
MODULES = ("torch", "numpy", "json", "runpy", "toto", "toto_patcher", "sitecustomize")


def plant(folder: Path) -> Path:
    """Fills a folder with modules that leave a mark; returns the mark."""
    folder.mkdir()
    mark = folder.parent / "PWNED"
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write({name!r})\n")
    return mark


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_imports_from_the_current_folder(name: str, patched: Path, checkpoint: Path, tmp_path: Path) -> None:
    mark = plant(tmp_path / "here")
    root = () if name == "env test" else ("--root", str(patched))
    if name in ("stress", "accuracy"):
        root += ("--checkpoint", str(checkpoint))
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *COMMANDS[name], *root],
        cwd=tmp_path / "here",
        env=environment(TOTO_COMPILE_BACKEND="eager"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 5), done.stderr
    assert not mark.exists(), mark.read_text()


@pytest.mark.parametrize("path", [None, "", os.pathsep, f"{os.pathsep}/nowhere", f"/nowhere{os.pathsep}"], ids=repr)
@pytest.mark.parametrize("safe", [True, False], ids=["safe path", "as Python 3.10"])
def test_a_worker_imports_from_its_own_path_only(
    path: str | None, safe: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = plant(tmp_path / "here")
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "worker.py").write_text(
        "import sys, toto_patcher; print(sys.argv, toto_patcher.__file__)\n"
    )
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path)
    given = python.environment()
    given["PYTHONPATH"] += os.pathsep + str(tmp_path / "library")
    given["PYTHONSAFEPATH"] = given["PYTHONSAFEPATH"] if safe else ""
    command = python.command("worker", "-x", "a b")
    done = subprocess.run(command, cwd=tmp_path / "here", env=given, capture_output=True, text=True, check=False)
    library = tmp_path / "library" / "worker.py"
    assert done.stdout.split("] ")[0] == f"{[str(library), '-x', 'a b']}".rstrip("]"), done.stderr
    assert str(REPOSITORY) in done.stdout and not mark.exists()


def test_relative_folders_of_the_path_still_mean_those_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"library{os.pathsep}")
    assert python.environment()["PYTHONPATH"].split(os.pathsep) == [str(REPOSITORY), str(tmp_path / "library")]


def test_every_worker_is_started_in_that_one_way() -> None:
    found = {
        file.name
        for file in (REPOSITORY / "toto_patcher").rglob("*.py")
        if 'sys.executable, "-m"' in file.read_text() or 'sys.executable, "-B", "-m"' in file.read_text()
    }
    assert found <= {"releases.py"}  # pip, in an empty folder
