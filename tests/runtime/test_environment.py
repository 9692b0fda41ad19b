"""Which source of a setting wins, what a variable may be, and that docs/environment.md says the same."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toto_patcher.errors import InputError
from toto_patcher.runtime import environment as env
from toto_patcher.runtime.compile_config import PRESETS

PAGE = (Path(__file__).parents[2] / "docs" / "environment.md").read_text(encoding="utf-8")


def test_an_argument_wins_over_the_environment_and_that_over_the_defaults() -> None:
    environ = {"TOTO_COMPILE": "1", "TOTO_COMPILE_MODE": "max-autotune"}
    chosen = env.choose(mode="default", environ=environ)
    assert (chosen.enabled, chosen.mode, chosen.backend) == (True, "default", "inductor")
    assert chosen.origins == {"enabled": "environment", "mode": "argument", "backend": "default"}
    assert not env.choose(environ={}).enabled


def test_the_switch_wins_over_arguments_and_works_beside_a_variable_that_cannot_be_read() -> None:
    broken = {"TOTO_DISABLE_COMPILE": "1", "TOTO_COMPILE": "1", "TOTO_COMPILE_MODE": "fastest"}
    chosen = env.choose(True, "default", environ=broken)
    assert (chosen.enabled, chosen.mode, chosen.origins["enabled"]) == (False, None, "disabled")


def test_an_empty_variable_is_an_unset_one_and_a_backend_without_modes_gets_none() -> None:
    assert env.choose(environ={"TOTO_DISABLE_COMPILE": "", "TOTO_COMPILE": " "}).origins["enabled"] == "default"
    assert env.choose(True, backend="eager", environ={}).mode is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOTO_DISABLE_COMPILE", "maybe"),
        ("TOTO_COMPILE", "2"),
        ("TOTO_COMPILE_MODE", "fastest"),
        ("TORCH_DYNAMO_RECOMPILE_LIMIT", "0"),
        ("TORCH_DYNAMO_RECOMPILE_LIMIT", "many"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    variable = next(each for each in env.VARIABLES if each.name == name)
    with pytest.raises(InputError, match=f"{name} is '{value}'"):
        env.read(variable, {name: value})


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, toto_patcher.runtime.environment; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# docs/environment.md


@pytest.mark.parametrize("variable", env.VARIABLES, ids=lambda each: each.name)
def test_the_page_says_of_a_variable_what_the_code_says(variable: env.Variable) -> None:
    cells = (f"`{variable.name}`", variable.values, variable.default, variable.effect, variable.reader)
    assert f"| {' | '.join(cells)} |" in PAGE


def test_the_page_names_what_torch_ignores_and_nothing_that_is_unknown() -> None:
    for name, instead in env.IGNORED.items():
        assert f"| `{name}` | {instead} |" in PAGE
    for name, (since, *_) in env.NEWER.items():
        assert re.search(rf"^\| `{name}` \|.*torch {re.escape(since)}", PAGE, flags=re.MULTILINE)


def _sources_of_torch() -> str:
    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None
    folder = Path(found.origin).parent
    files = ("_dynamo/config.py", "_dynamo/eval_frame.py", "_inductor/config.py", "_logging/_internal.py")
    more = ("_functorch/config.py", "_inductor/runtime/cache_dir_utils.py")
    return "".join((folder / file).read_text(encoding="utf-8") for file in (*files, *more) if (folder / file).exists())


def test_the_installed_torch_reads_what_the_page_says_it_reads_and_nothing_of_what_is_said_to_be_ignored() -> None:
    source = _sources_of_torch()
    section = PAGE.split("## Torch's own")[1].split("## ")[0]
    listed = re.findall(r"^\| `([A-Z_]+)`", section, flags=re.MULTILINE)
    shared = [variable.name for variable in env.VARIABLES if "torch" in variable.reader.split(", ")]
    import torch

    version = tuple(map(int, torch.__version__.split(".")[:2]))
    newer = {name for name, (since, *_) in env.NEWER.items() if version < tuple(map(int, since.split(".")))}
    for name in {*listed, *shared, *env.TORCH_OFF} - newer:
        assert f'"{name}"' in source, name
    for name in (*env.IGNORED, env.LIMIT.name, *newer):
        assert f'"{name}"' not in source, name


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_says_what_a_preset_chooses(name: str) -> None:
    chosen = ", ".join(f"`{setting}={value}`" for setting, value in PRESETS[name].items())
    assert f"| `{name}` | {chosen} |" in PAGE
