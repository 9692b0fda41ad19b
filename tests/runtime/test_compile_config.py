"""apply(): what it sets, from where, and that all of it can be undone. Torch is imported once, by this process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch._dynamo.config as dynamo
import torch._inductor.config as inductor

from toto_patcher.errors import InputError
from toto_patcher.runtime import compile_config, environment
from toto_patcher.runtime.compile_config import NoEffectWarning, apply

pytestmark = pytest.mark.xdist_group("compile_config")
REPOSITORY = Path(__file__).parents[2]


def state() -> dict[str, Any]:
    """All that apply() may change."""
    limits = {name: getattr(dynamo, name) for name in ("recompile_limit", "accumulated_recompile_limit")}
    casts = inductor.emulate_precision_casts
    environ = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return {**environ, **limits, "scalars": dynamo.capture_scalar_outputs, "emulate_precision_casts": casts}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Nobody's variables, and nothing left behind once the test's own are gone."""
    names = [*(variable.name for variable in environment.VARIABLES), *environment.IGNORED, *environment.NEWER]
    with pytest.MonkeyPatch.context() as unset:
        for name in (*names, *environment.TORCH_OFF):
            unset.delenv(name, raising=False)
        before = state()
        yield
        assert state() == before


def in_a_thread(name: str) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(getattr(dynamo, name)))
    thread.start()
    thread.join()
    return found[0]


def test_the_defaults_are_set_for_torch_for_the_pipeline_and_for_every_thread() -> None:
    before = state()
    applied = apply()
    assert (dynamo.recompile_limit, dynamo.capture_scalar_outputs) == (256, True)
    assert dynamo.accumulated_recompile_limit >= 256
    assert (in_a_thread("recompile_limit"), in_a_thread("capture_scalar_outputs")) == (256, True)
    chosen = environment.choose()
    assert (chosen.enabled, chosen.mode, chosen.backend) == (True, "reduce-overhead", "inductor")
    assert applied["recompile_limit"].before == before["recompile_limit"]
    assert {setting.origin for setting in applied.settings} <= {"default", "torch"}
    applied.undo()
    assert in_a_thread("recompile_limit") == before["recompile_limit"]


def test_argument_then_environment_then_preset_then_torch_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOTO_COMPILE_MODE", "max-autotune-no-cudagraphs")
    monkeypatch.setenv("TOTO_COMPILE_BACKEND", "aot_eager")
    with dynamo.patch(recompile_limit=77, capture_scalar_outputs=True):
        applied = apply(preset="debugging", mode="max-autotune")
        found = {setting.name: (setting.value, setting.origin) for setting in applied.settings}
        applied.undo()
        assert dynamo.recompile_limit == 77
        kept = apply()
        assert (kept["recompile_limit"].value, kept["recompile_limit"].origin) == (77, "torch")
        kept.undo()
    assert found["mode"] == ("max-autotune", "argument")
    assert found["backend"] == ("aot_eager", "environment")
    assert found["recompile_limit"] == (8, "preset")
    assert found["capture_scalar_outputs"] == (True, "torch")
    assert found["enabled"] == (True, "default")


def test_the_limit_is_read_from_the_variable_that_torch_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_DYNAMO_RECOMPILE_LIMIT", "1000")
    applied = apply()
    assert dynamo.recompile_limit == dynamo.accumulated_recompile_limit == 1000
    applied.undo()


def test_what_the_user_exported_stays_as_it_is_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHDYNAMO_CAPTURE_SCALAR_OUTPUTS", "true")  # which torch itself takes for off
    monkeypatch.setenv("TOTO_COMPILE", "no")
    applied = apply()
    assert (os.environ["TORCHDYNAMO_CAPTURE_SCALAR_OUTPUTS"], os.environ["TOTO_COMPILE"]) == ("true", "no")
    assert dynamo.capture_scalar_outputs is True and applied.enabled is False
    applied.undo()


def test_what_a_script_exports_after_apply_wins_and_stays_with_a_second_apply() -> None:
    first = apply()
    os.environ["TOTO_COMPILE_MODE"] = "max-autotune"
    assert environment.choose().mode == "max-autotune"
    second = apply()
    assert (second["mode"].value, second["mode"].origin) == ("max-autotune", "environment")
    first.undo()
    assert "TOTO_COMPILE_MODE" not in os.environ


def test_applied_twice_is_applied_once() -> None:
    first = apply(mode="max-autotune")
    between = state()
    second = apply(mode="max-autotune")
    assert state() == between
    for one, other in zip(first.settings, second.settings, strict=True):
        assert (one.name, one.value, one.origin) == (other.name, other.value, other.origin)
    second.undo()
    assert state() == between
    first.undo()
    first.undo()


@pytest.mark.parametrize("order", [(0,), (1, 0), (0, 1)], ids=["first alone", "last first", "first first"])
def test_undo_puts_back_what_was_before_a_call_in_any_order(order: tuple[int, ...], tmp_path: Path) -> None:
    before = state()
    calls = [apply(recompile_limit=300), apply(preset="accuracy-first", cache_dir=tmp_path)]
    assert dynamo.recompile_limit == 256, "an earlier call leaves no trace in a later one"
    assert inductor.emulate_precision_casts and os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    for index in order:
        calls[index].undo()
        if index == 1 and order == (1, 0):
            assert dynamo.recompile_limit == 300 and "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert state() == before


def test_what_a_later_call_does_not_set_goes_back_to_the_user(tmp_path: Path) -> None:
    first = apply(preset="accuracy-first", cache_dir=tmp_path)
    apply()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ and not inductor.emulate_precision_casts
    first.undo()


def test_switched_off_it_leaves_everything_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOTO_DISABLE_COMPILE", "1")
    before = state()
    applied = apply(verbose=True, mode="max-autotune")
    assert state() == before and not applied.enabled
    assert "Compilation is off: TOTO_DISABLE_COMPILE" in capsys.readouterr().out


def test_verbose_prints_every_setting_and_its_origin(capsys: pytest.CaptureFixture[str]) -> None:
    applied = apply(verbose=True, mode="default")
    applied.undo()
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["mode"][1:3] == ["default", "argument"]
    assert rows.keys() == {"setting", *(setting.name for setting in applied.settings)}


@pytest.mark.parametrize("name", compile_config.PRESETS)
def test_a_preset_sets_what_it_says(name: str) -> None:
    applied = apply(preset=name)
    for setting, value in compile_config.PRESETS[name].items():
        assert (applied[setting].value, applied[setting].origin) == (value, "preset")
    applied.undo()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "fastest"},
        {"backend": "warp"},
        {"preset": "turbo"},
        {"recompile_limit": 0},
        {"recompile_limit": True},
        {"capture_scalar_outputs": "1"},
        {"cache_dir": __file__},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_nothing_is_set(wrong: dict[str, Any]) -> None:
    before = state()
    with pytest.raises(InputError):
        apply(**{"recompile_limit": 300, **wrong})
    assert state() == before


def test_what_has_no_effect_in_this_torch_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHDYNAMO_CACHE_SIZE_LIMIT", "TORCH_COMPILE_DISABLE", "TORCHINDUCTOR_CUDAGRAPH_OR_ERROR"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setitem(environment.NEWER, "TOTO_TEST", ("99.0", "torch._dynamo.config", "no_such_setting"))
    monkeypatch.setenv("TOTO_TEST", "1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        applied = apply()
    applied.undo()
    told = [str(each.message) for each in caught if each.category is NoEffectWarning]
    assert told == list(applied.warnings) and {Path(each.filename).name for each in caught} == {Path(__file__).name}
    ignored, newer = "TORCHDYNAMO_CACHE_SIZE_LIMIT is set, but", "only torch 99.0 and newer"
    for words in (ignored, newer, "TORCH_COMPILE_DISABLE=1: torch"):
        assert sum(words in message for message in told) == 1
    assert ("TORCHINDUCTOR_CUDAGRAPH_OR_ERROR" in "".join(told)) == (not hasattr(inductor.triton, "cudagraph_or_error"))


def child(code: str, **changes: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOTO_", "TORCH"))}
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "toto_patcher" / "compat")])
    environ = {**kept, "PYTHONPATH": path, **changes}
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)


def test_the_name_of_existing_scripts_works_before_torch_is_imported() -> None:
    code = (
        "import os, sys, toto_compile_config\n"
        "assert 'torch' not in sys.modules and 'libcst' not in sys.modules\n"
        "before = dict(os.environ)\n"
        "applied = toto_compile_config.apply(verbose=True)\n"
        "import torch._dynamo\n"
        "assert torch._dynamo.config.recompile_limit == 256\n"
        "applied.undo()\n"
        "assert dict(os.environ) == before and torch._dynamo.config.recompile_limit != 256\n"
        "assert not torch._dynamo.config.capture_scalar_outputs and 'libcst' not in sys.modules\n"
    )
    done = child(code)
    assert done.returncode == 0 and "recompile_limit" in done.stdout, done.stderr


def test_without_torch_the_switch_works_and_the_rest_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; import toto_compile_config as c; c.apply()"
    assert child(code, TOTO_DISABLE_COMPILE="1").returncode == 0
    refused = child(code)
    assert refused.returncode == 1 and "UsageError: compiling needs torch" in refused.stderr
