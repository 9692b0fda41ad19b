"""One place says which versions are supported and how to install: everything else that says so agrees with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toto_patcher import supported

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [f"3.{minor}" for minor in range(*(int(v.split(".")[1]) + n for n, v in enumerate(supported.PYTHON)))]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SCRIPTS = sorted((REPOSITORY / "scripts").glob("*.sh"))


def texts() -> dict[str, str]:
    """What users are told: the package, the patches, the scripts and the pages."""
    folders = ("toto_patcher", "patches", "scripts", "docs", ".ci")
    files = [path for folder in folders for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
    kinds = (".py", ".sh", ".md", ".yml", ".yaml", "")
    return {
        str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
        for path in [*files, REPOSITORY / "README.md"]
        if path.suffix in kinds and "__pycache__" not in path.parts
    }


def test_the_project_declares_what_is_supported() -> None:
    assert PROJECT["requires-python"] == f">={supported.PYTHON[0]}"
    named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if ":: Python :: 3." in text]
    assert named == PYTHONS
    runtime = PROJECT["optional-dependencies"]["runtime"]
    assert {f"{name}>={oldest}" for name, (oldest, _) in supported.DEMANDS.items()} <= set(runtime)


def test_readme_and_the_pages_say_the_same() -> None:
    bounds = {"Python": supported.PYTHON, **supported.DEMANDS}
    told = ", ".join(f"{name} {oldest} to {newest}" for name, (oldest, newest) in bounds.items())
    assert f"Supported: {told};" in README
    assert f"Both need Linux, Python {supported.PYTHON[0]} to {supported.PYTHON[1]}," in README
    page = (REPOSITORY / "docs" / "environment.md").read_text(encoding="utf-8")
    assert f"`cpu` is {supported.BETWEEN} without" in page
    assert f"up to torch {supported.TORCH[1].rpartition('.')[0]}." in page


def test_the_scripts_look_for_the_same_pythons() -> None:
    script = (REPOSITORY / "scripts" / "_venv.sh").read_text(encoding="utf-8")
    assert re.findall(r"python(3\.\d+)", script.split("for candidate in")[1].split("; do")[0]) == PYTHONS[::-1]
    assert f"3, {supported.PYTHON[0].split('.')[1]}" in script


def test_ci_runs_the_oldest_torch_and_the_one_in_between_and_pins_nothing_else() -> None:
    told = subprocess.run(
        [sys.executable, REPOSITORY / "toto_patcher" / "supported.py"], capture_output=True, text=True, check=True
    )
    oldest, between = (line.split() for line in told.stdout.splitlines())
    assert between == [f"torch=={supported.BETWEEN}"]
    if sys.version_info < (3, 13):
        assert oldest == [f"torch=={supported.TORCH[0]}", f"numpy=={supported.NUMPY[0]}"]
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert "toto_patcher/supported.py" in ci and "TOTO_PATCH_TORCH" not in ci and not re.search(r"==\d", ci)


def test_nobody_is_told_to_install_what_is_on_no_index() -> None:
    by_name = re.compile(r"pip3? install\b.*(?<![/\w])toto[-_]patch(?![-\w])|toto[-_]patch\[\w+\]")
    assert {name: found[0] for name, text in texts().items() if (found := by_name.findall(text))} == {}


def test_every_hint_names_an_extra_that_exists_and_stands_in_one_place() -> None:
    assert supported.install_hint() == "in a clone of toto-patch: pip install ."
    assert supported.install_hint("runtime") == "in a clone of toto-patch: pip install '.[runtime]'"
    for name, text in texts().items():
        if name.endswith(".py"):
            asked = set(re.findall(r"install_hint\(['\"](\w+)['\"]\)", text))
            assert asked <= PROJECT["optional-dependencies"].keys(), name
            assert name == "toto_patcher/supported.py" or not re.search(r"pip install '?\.", text), name
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        assert "pip install ." not in text or supported.install_hint() in text, script.name


@pytest.mark.parametrize(
    ("python", "torch", "told"),
    [
        ("3.11.7", "2.13.0+cpu", []),
        ("3.10.0", "2.7.0", []),
        ("3.14.9", None, []),
        ("3.11.7", supported.TORCH[1] + "+cu130", []),
        ("3.15.0", "2.13.0", ["Python 3.15.0 is newer than"]),
        ("3.9.2", "2.6.1", ["Python 3.9.2 is older than", "torch 2.6.1 is older than"]),
        ("3.11.7", "9.0.0.dev20300101", ["torch 9.0.0.dev20300101 is newer than"]),
        ("3.11.7", "strange", ["torch strange is older than"]),
    ],
)
def test_what_was_not_tested_is_named(python: str, torch: str | None, told: list[str]) -> None:
    misbehaving = [wrong for wrong, _ in supported.MISBEHAVING.values()]
    found = supported.concerns(python, {"torch": torch, "numpy": None})
    others = [line for line in found if not any(wrong in line for wrong in misbehaving)]
    assert [line.startswith(start) for line, start in zip(others, told, strict=True)] == [True] * len(told)


def test_a_torch_that_misbehaves_is_named_with_what_it_does_wrong() -> None:
    for since, (wrong, instead) in supported.MISBEHAVING.items():
        (line,) = supported.concerns("3.11.0", {"torch": f"{since}.0", "numpy": None})
        assert wrong in line and instead in line
    assert supported.concerns("3.11.0", {"torch": supported.BETWEEN, "numpy": None}) == []


def test_env_status_names_a_torch_that_is_too_new_without_importing_it(tmp_path: Path) -> None:
    """As pip records it: a package beside its metadata, whose import would fail."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    info = tmp_path / "torch-9.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.1.0\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    command = [sys.executable, "-m", "toto_patcher", "env", "status"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"note: torch 9.1.0 is newer than {supported.TORCH[1]}" in done.stdout
    assert ", torch 9.1.0, numpy" in done.stdout


def test_the_extras_that_refusals_name_are_those_that_are_declared() -> None:
    for extra, brings in supported.EXTRAS.items():
        declared = {re.split(r"[<>=]", demand)[0] for demand in PROJECT["optional-dependencies"][extra]}
        assert {name.replace("_", "-") for name in brings} == declared
