"""The real ladder behind the real command: outputs that differ, and checkpoints, each in a process of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_driver import REPOSITORY, Run, document, edit, snapshot
from json_page import PROOF, differences, documented

from tests.equivalence.faults import FAULTS
from toto_patcher.equivalence.children import Child
from toto_patcher.equivalence.models import CONFIG_FILE, WEIGHTS_FILE
from toto_patcher.equivalence.worker import Job

INSERTED = "patches/kv_cache_tensor_index/inserted.py"
QUICK = ("verify-only", "--numerics", "--quick")


@pytest.fixture
def faulty(tmp_path: Path) -> dict[str, str]:
    """The environment of a program that inserts one wrong line, as a broken build of it would."""
    program = tmp_path / "program"
    for name in ("toto_patcher", "patches"):
        shutil.copytree(REPOSITORY / name, program / name, ignore=shutil.ignore_patterns("__pycache__"))
    (fault,) = next(fault.edits for fault in FAULTS if fault.name == "position-one-less")
    edit(program, INSERTED, fault.old, fault.new)
    return {"PYTHONPATH": str(program)}


def test_a_patch_with_a_fault_is_5_and_names_the_failing_check(toto: Path, toto_patch: Run, faulty) -> None:
    pristine = snapshot(toto)
    proved = toto_patch("apply", "--verify", "--quick", "--json", "--root", toto, env=faulty)
    found = document(proved)
    assert (proved.returncode, found["written"], found["ladder"]["passed"]) == (5, False, False), proved.stderr
    assert differences(found["ladder"], documented()[PROOF]) == []
    failed = [check for check in found["ladder"]["checks"] if check["verdict"] == "FAIL"]
    assert "cached-keys/tiny/float32" in {check["name"] for check in failed}
    assert all(check["worst_error"] > check["bound"] and check["worst_case"] for check in failed)
    assert snapshot(toto) == pristine

    # Nobody asked for the proof: the record agrees with the faulty bytes, and only the numbers tell.
    for command in ("apply", "verify-only"):
        assert toto_patch(command, "--root", toto, env=faulty).returncode == 0
    patched = snapshot(toto)
    done = toto_patch(*QUICK, "--root", toto, env=faulty)
    assert done.returncode == 5, done.stderr
    told = [line for line in done.stdout.splitlines() if "cached-keys/tiny/float32" in line]
    assert told[0].endswith("FAIL") and "report" in told[-1]  # the table, and what to do next
    assert "its outputs differ from the original's" in done.stdout and "toto-patch revert" in done.stdout
    assert snapshot(toto) == patched
    assert toto_patch("revert", "--root", toto, env=faulty).returncode == 0
    assert snapshot(toto) == pristine


def test_the_profile_full_graph_is_proved_with_all_its_checks(toto: Path, toto_patch: Run) -> None:
    assert toto_patch("apply", "--profile", "full-graph", "--root", toto).returncode == 0
    done = toto_patch(*QUICK, "--json", "--root", toto)
    assert done.returncode == 0, done.stderr
    ladder = document(done)["ladder"]
    assert differences(ladder, documented()[PROOF]) == []
    names = {check["name"] for check in ladder["checks"] if check["verdict"] == "pass"}
    assert names >= {"decoded/tiny", "same-seed/tiny/float32", "fast-sampler/tiny/float32", "breaks/tiny"}


def test_a_device_that_is_not_there_is_2(patched: Path, toto_patch: Run) -> None:
    done = toto_patch(*QUICK, "--device", "cuda", "--root", patched, env={"CUDA_VISIBLE_DEVICES": ""})
    assert (done.returncode, done.stdout) == (2, "")
    assert "torch finds no GPU" in done.stderr
    assert toto_patch("verify-only", "--device", "cpu", "--root", patched).returncode == 2


@pytest.fixture(scope="module")
def checkpoint(toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the published checkpoint's, of the tiny shape. Read-only."""
    folder = tmp_path_factory.mktemp("checkpoint")
    job = Job(root=str(toto_release("0.2.0").resolve()), out=str(folder), shape="tiny")
    (outcome,) = Child([job], folder, lambda line: None).wait()
    assert outcome.failure == ""
    return folder


def test_a_checkpoint_is_proved_and_named(patched: Path, toto_patch: Run, checkpoint: Path) -> None:
    done = toto_patch("--verbose", *QUICK, "--checkpoint", checkpoint, "--root", patched)
    assert done.returncode == 0, done.stderr
    assert f"on the checkpoint {checkpoint}" in done.stdout
    assert "teacher-forced/checkpoint/float32" in done.stdout and "/tiny/" not in done.stdout


def _without_a_weight(folder: Path) -> str:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / WEIGHTS_FILE)
    name = max(name for name in weights if name.endswith("wO.weight"))
    del weights[name]
    save_file(weights, folder / WEIGHTS_FILE)
    return name


def _of_another_width(folder: Path) -> str:
    config = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(config | {"embed_dim": 2 * config["embed_dim"]}))
    return "size mismatch"


def _cut_off(folder: Path) -> str:
    (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:1000])
    return "cannot be loaded"


def _config_that_is_no_json(folder: Path) -> str:
    (folder / CONFIG_FILE).write_text('{\n  "patch_size": 16,\n')
    return f"{CONFIG_FILE}:3"


def _config_that_is_a_list(folder: Path) -> str:
    (folder / CONFIG_FILE).write_text("[]")
    return CONFIG_FILE


@pytest.mark.parametrize(
    "broken", [_without_a_weight, _of_another_width, _cut_off, _config_that_is_no_json, _config_that_is_a_list]
)
def test_a_broken_checkpoint_is_2_and_says_what_is_wrong(
    broken: Callable[[Path], str], patched: Path, toto_patch: Run, checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "broken"))
    told = broken(folder)
    before = snapshot(patched)
    done = toto_patch(*QUICK, "--checkpoint", folder, "--root", patched)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(folder) in done.stderr and told in done.stderr and "  next: " in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(patched) == before
