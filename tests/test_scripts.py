"""The scripts: what they answer, what they install and when, and that the demonstration can fail."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from toto_patcher.supported import BETWEEN

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((REPOSITORY / "scripts").glob("*.sh"))
ENTRY_POINTS = [*(path for path in SCRIPTS if not path.name.startswith("_")), REPOSITORY / ".ci" / "run"]


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("script", [*SCRIPTS, REPOSITORY / ".ci" / "run"], ids=lambda path: path.name)
def test_bash_can_parse_it(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("script", ENTRY_POINTS, ids=lambda path: path.name)
def test_it_is_executable_and_stops_at_errors(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()


# pre_deploy.sh


@pytest.fixture
def pre_deploy(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a copy of the script, so that the toto-patch of this working tree is the one on the PATH."""
    script = tmp_path / "deployed" / "scripts" / "pre_deploy.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "pre_deploy.sh", script)
    executable(
        tmp_path / "bin" / "toto-patch",
        f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m toto_patcher "$@"\n',
    )

    def run(*arguments: str | Path, toto_patch: str | None = None) -> subprocess.CompletedProcess[str]:
        if toto_patch is not None:
            executable(tmp_path / "bin" / "toto-patch", f"#!/bin/sh\n{toto_patch}\n")
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
        environment.pop("TOTO_PATCH_ROOT", None)
        return subprocess.run(
            ["bash", script, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_pre_deploy_is_ready_only_for_a_patched_and_whole_tree(
    pre_deploy: Callable[..., subprocess.CompletedProcess[str]],
    fresh_toto: Callable[[str, Path], Path],
    tmp_path: Path,
) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    unpatched = pre_deploy("--root", root)
    assert (unpatched.returncode, "the tree is not patched" in unpatched.stderr) == (1, True)

    subprocess.run([tmp_path / "bin" / "toto-patch", "--root", root, "apply", "--backup"], check=True)
    patched = pre_deploy("--root", root)
    assert (patched.returncode, patched.stdout.splitlines()[-1]) == (0, "pre-deploy: ready")

    with (root / "toto" / "model" / "util.py").open("a") as stream:
        stream.write("# edited since\n")
    drifted = pre_deploy("--root", root)
    assert (drifted.returncode, "not what toto-patch wrote" in drifted.stderr) == (3, True)


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ((), "verify-only"),
        (("--numerics",), "verify-only --numerics --device cpu"),
        (("--quick", "--device", "cuda"), "verify-only --numerics --device cuda --quick"),
        (("--checkpoint", "a b", "--root", "c d"), "--root c d verify-only --numerics --device cpu --checkpoint a b"),
        (("--accuracy", "--quick"), "verify-only|accuracy --device cpu --quick"),
        (
            ("--stress", "full", "--device", "cuda", "--compile-mode", "default", "--checkpoint", "a"),
            "verify-only|stress --mode full --compile-mode default --device cuda --checkpoint a",
        ),
        (
            ("--numerics", "--accuracy", "--stress", "quick", "--root", "r"),
            "--root r verify-only --numerics --device cpu|--root r accuracy --device cpu|"
            "--root r stress --mode quick --device cpu",
        ),
    ],
)
def test_pre_deploy_hands_over_its_options(
    pre_deploy: Callable[..., subprocess.CompletedProcess[str]], given: tuple[str, ...], passed: str
) -> None:
    *calls, last = pre_deploy(*given, toto_patch='echo "$@"').stdout.splitlines()
    assert ("|".join(calls), last) == (passed, "pre-deploy: ready")


PLANTED = {
    "slow": ("answer = self._decode(", "__import__('time').sleep(0.25)", "stress", "min_speedup_eager"),
    "recompiled": (
        "answer = self._decode(",
        "self.calls = [*getattr(self, 'calls', ()), 0]; "
        "torch.compile(lambda x: x + 1, backend='eager', dynamic=False)(torch.zeros(len(self.calls)))",
        "stress",
        "recompilations",
    ),
    "inaccurate": (
        "values = answer.values",
        "answer.values.add_(answer.values.std(-1, keepdim=True))",
        "stress",
        "mae_delta",
    ),
    "not as accurate": (
        "values = answer.values",
        "answer.values.add_(answer.values.std(-1, keepdim=True))",
        "accuracy",
        "mae",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_pre_deploy_fails_where_a_patch_is_slow_or_recompiles_or_is_inaccurate(
    name: str,
    pre_deploy: Callable[..., subprocess.CompletedProcess[str]],
    fresh_toto: Callable[[str, Path], Path],
    tmp_path: Path,
) -> None:
    """The fault is in what the program itself writes, so that the record agrees with the bytes."""
    before, line, check, told = PLANTED[name]
    program = tmp_path / "program"
    for folder in ("toto_patcher", "patches"):
        shutil.copytree(REPOSITORY / folder, program / folder, ignore=shutil.ignore_patterns("__pycache__"))
    decoding = program / "patches" / "static_decoder" / "static_decoder" / "decoding.py"
    planted = re.sub(rf"(?m)^( +)(?={re.escape(before)})", rf"\1{line}\n\1", decoding.read_text())
    assert planted != decoding.read_text()
    decoding.write_text(planted)
    faulty = f'PYTHONPATH="{program}" exec "{sys.executable}" -m toto_patcher "$@"'
    root = fresh_toto("0.2.0", tmp_path)
    tool = executable(tmp_path / "tool", f"#!/bin/sh\n{faulty}\n")
    subprocess.run(
        [tool, "--root", root, "apply", "--profile", "full-graph"], check=True, capture_output=True, cwd=tmp_path
    )
    mode = "default" if name == "recompiled" else "eager"
    asked = ("--accuracy", "--quick") if check == "accuracy" else ("--stress", "quick")
    done = pre_deploy(*asked, "--compile-mode", mode, "--root", root, toto_patch=faulty)
    assert (done.returncode, "pre-deploy: NOT READY" in done.stderr) == (5, True), done.stdout + done.stderr
    assert told in done.stdout


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5, 130])
def test_pre_deploy_fails_with_the_status_and_a_reason(
    pre_deploy: Callable[..., subprocess.CompletedProcess[str]], status: int
) -> None:
    done = pre_deploy(toto_patch=f"exit {status}")
    assert done.returncode == status
    assert "NOT READY" in done.stderr


@pytest.mark.parametrize("given", [("--nonsense",), ("--root",)])
def test_pre_deploy_refuses_what_it_does_not_know(
    pre_deploy: Callable[..., subprocess.CompletedProcess[str]], given: tuple[str, ...]
) -> None:
    done = pre_deploy(*given, toto_patch="exit 0")
    assert (done.returncode, "usage:" in done.stderr) == (2, True)


# toggle_torch_compile.sh


@pytest.mark.parametrize("place", ["deployed/.venv/bin", "bin"], ids=["of its repository", "installed"])
def test_toggle_hands_over_its_arguments_and_the_status(place: str, tmp_path: Path) -> None:
    script = tmp_path / "deployed" / "scripts" / "toggle_torch_compile.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "toggle_torch_compile.sh", script)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
        command = ["bash", str(script), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert (run("status").returncode, "not installed" in run("status").stderr) == (2, True)
    executable(tmp_path / place / "toto-patch", '#!/bin/sh\necho "$0 $*"\nexit 5\n')
    done = run("mode", "max-autotune", "--file", "a b")
    assert done.returncode == 5
    assert done.stdout == f"{tmp_path / place}/toto-patch env mode max-autotune --file a b\n"
    for wrong in ((), ("on",)):
        assert (run(*wrong).returncode, "usage:" in run(*wrong).stderr) == (2, True)


def test_toggle_writes_a_file_that_a_shell_sources(tmp_path: Path) -> None:
    command = f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m toto_patcher "$@"\n'
    executable(tmp_path / ".venv" / "bin" / "toto-patch", command)
    script = tmp_path / "scripts" / "toggle_torch_compile.sh"
    script.parent.mkdir()
    shutil.copy(REPOSITORY / "scripts" / "toggle_torch_compile.sh", script)
    program = "scripts/toggle_torch_compile.sh disable >&2; . ./.env.compile; echo $TOTO_DISABLE_COMPILE"
    done = subprocess.run(["bash", "-euc", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


# .venv and test.sh


@pytest.fixture
def ensure_venv(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs ensure_venv in a folder whose .venv has a Python that only writes down how it is called."""
    executable(tmp_path / ".venv" / "bin" / "python", '#!/bin/sh\necho "$@" >>calls\n')
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    (tmp_path / "toto_patcher").mkdir()
    shutil.copy(REPOSITORY / "toto_patcher" / "supported.py", tmp_path / "toto_patcher")

    def run(extra: str, torch: str = "") -> list[str]:
        calls = tmp_path / "calls"
        calls.write_text("")
        program = f". {REPOSITORY}/scripts/_venv.sh; ensure_venv {extra}"
        environment = {**os.environ, "TOTO_PATCH_TORCH": torch}
        subprocess.run(["bash", "-euo", "pipefail", "-c", program], cwd=tmp_path, env=environment, check=True)
        return [line for line in calls.read_text().splitlines() if "install" in line]

    return run


def test_the_environment_is_installed_once(ensure_venv: Callable[..., list[str]], tmp_path: Path) -> None:
    (first,) = ensure_venv("test")
    assert first.endswith("--editable .[test]")
    assert ensure_venv("test") == []
    with (tmp_path / "pyproject.toml").open("a") as stream:
        stream.write("# changed\n")
    assert len(ensure_venv("test")) == 1
    assert ensure_venv("test") == []


def test_a_pinned_torch_is_asked_for_and_unpinned_means_again(ensure_venv: Callable[..., list[str]]) -> None:
    (pinned,) = ensure_venv("dev", torch="2.13.0")
    assert pinned.endswith("--editable .[dev] torch==2.13.0")
    assert ensure_venv("dev", torch="2.13.0") == []
    assert len(ensure_venv("dev")) == 1


def test_the_small_build_comes_from_an_index_of_its_own(
    ensure_venv: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (official,) = ensure_venv("demo", torch="cpu")
    assert official.endswith(
        f"--editable .[demo] --extra-index-url https://download.pytorch.org/whl/cpu torch=={BETWEEN}+cpu"
    )
    monkeypatch.setenv("TOTO_PATCH_TORCH_INDEX", "file:///mirror")
    (mirrored,) = ensure_venv("test", torch="2.9.0+cpu")
    assert mirrored.endswith("--editable .[test] --extra-index-url file:///mirror torch==2.9.0+cpu")


@pytest.mark.parametrize(
    ("torch", "free", "status", "told"),
    [
        ("", 20, 0, "about 6 GB in .venv"),
        ("", 5, 4, "too little room: 5 GB are free here, and .venv with what is downloaded for it needs 9 GB"),
        ("cpu", 5, 0, "about 1 GB in .venv"),
        ("2.13.0+cpu", 1, 4, "needs 2 GB"),
        ("2.13.0", 5, 4, "TOTO_PATCH_TORCH=cpu"),
    ],
)
def test_the_size_is_said_before_anything_is_downloaded(
    torch: str, free: int, status: int, told: str, tmp_path: Path
) -> None:
    """On a disk of that size; where it is too small nothing is made."""
    executable(tmp_path / "bin" / "df", f"#!/bin/sh\necho Filesystem\necho disk 0 0 {free}000000 0% /\n")
    made = executable(tmp_path / "python", '#!/bin/sh\n[ "$1" != -m ] || touch made\n')
    program = f". {REPOSITORY}/scripts/_venv.sh; make_venv .venv"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHON": str(made)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", program],
        cwd=tmp_path, env={**environment, "TOTO_PATCH_TORCH": torch}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, told in done.stdout + done.stderr) == (status, True), done.stdout + done.stderr
    assert (tmp_path / "made").exists() == (status == 0)


def test_a_larger_extra_serves_a_smaller_one_and_not_the_reverse(ensure_venv: Callable[..., list[str]]) -> None:
    assert len(ensure_venv("demo")) == 1
    assert len(ensure_venv("test")) == 1
    assert len(ensure_venv("dev")) == 1
    assert ensure_venv("test") == ensure_venv("demo") == []


def test_an_installation_that_failed_is_tried_again(ensure_venv: Callable[..., list[str]], tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    good = python.read_text()
    executable(python, good + 'case "$*" in *install*) exit 1;; esac\n')
    with pytest.raises(subprocess.CalledProcessError):
        ensure_venv("test")
    executable(python, good)
    assert len(ensure_venv("test")) == 1


def test_the_test_script_says_that_strace_is_missing(tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("bash", "dirname"):
        found = shutil.which(tool)
        assert found is not None
        (bare / tool).symlink_to(found)
    done = subprocess.run(
        [bare / "bash", REPOSITORY / "scripts" / "test.sh"],
        env={"PATH": str(bare)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "apt-get install strace" in done.stderr


# forecast_demo.py


def demonstrate(original: Path, patched: Path, picture: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, REPOSITORY / "scripts" / "forecast_demo.py", *more]
    command += ["--original", original, "--patched", patched, "--output", picture]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_demonstration_draws_two_equal_forecasts_of_the_embedded_model(
    toto_release: Callable[[str], Path], fresh_toto: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    done = demonstrate(toto_release("0.2.0"), fresh_toto("0.2.0", tmp_path), tmp_path / "out" / "picture.png")
    assert done.returncode == 0, done.stderr
    assert "weights   embedded model" in done.stdout
    assert "two samples: 0.0e+00" in done.stdout
    assert (tmp_path / "out" / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_demonstration_fails_when_the_forecasts_differ(
    toto_release: Callable[[str], Path], fresh_toto: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    wrong = fresh_toto("0.2.0", tmp_path)
    with (wrong / "toto" / "inference" / "forecaster.py").open("a") as stream:
        stream.write(
            "\n_right = TotoForecaster.forecast\n"
            "def _wrong(self, *args, **kwargs):\n"
            "    result = _right(self, *args, **kwargs)\n"
            "    return Forecast(mean=result.mean, samples=result.samples + 0.01)\n"
            "TotoForecaster.forecast = _wrong\n"
        )
    done = demonstrate(toto_release("0.2.0"), wrong, tmp_path / "picture.png")
    assert (done.returncode, "differ" in done.stderr) == (5, True), done.stderr


def test_the_demonstration_writes_no_weights_into_a_folder_that_has_none(
    toto_release: Callable[[str], Path], tmp_path: Path
) -> None:
    root = toto_release("0.2.0")
    done = demonstrate(root, root, tmp_path / "picture.png", "--checkpoint", tmp_path)
    assert (done.returncode, f"no config.json in {tmp_path}" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


# benchmark_gpu.sh


def test_benchmark_gpu_measures_the_trees_of_a_folder_in_their_order(tmp_path: Path) -> None:
    fake = executable(tmp_path / "python", '#!/bin/sh\necho "$@"\nexit 3\n')
    trees = tmp_path / "trees"
    command = ["bash", str(REPOSITORY / "scripts" / "benchmark_gpu.sh"), str(trees), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHON": str(fake), "NAME": "x", "EXTRA": "--shape tiny"}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "benchmark_trees.py" in refused.stderr

    trees.mkdir()
    (trees / "order.txt").write_text("upstream\nfull-graph\nonly-a\nupto-b\n")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    rows, ablation = (line.split() for line in done.stdout.splitlines())
    assert done.returncode == 3 and (tmp_path / "out" / "benchmark.log").read_text() == done.stdout

    def named(words: list[str]) -> list[str]:
        return [word.partition("=")[0] for option, word in itertools.pairwise(words) if option == "--tree"]

    assert named(rows) == ["upstream", "full-graph"]
    assert named(ablation) == ["upstream", "full-graph", "only-a", "upto-b"]
    assert f"{tmp_path}/out/full-graph-x.json" in rows and f"{tmp_path}/out/full-graph-x-ablation.json" in ablation
    assert rows[-2:] == ablation[-2:] == ["--shape", "tiny"]


# apply_and_test.sh


@pytest.mark.parametrize("failing", ["", "apply", "verify-only", "accuracy", "bench", "bench|revert"])
def test_apply_and_test_runs_all_checks_and_reverts_if_one_fails(failing: str, tmp_path: Path) -> None:
    tool = 'echo "$*" >>"$CALLS"; echo "said of $*"; [ -z "$FAILING" ] || ! echo "$*" | grep -Eq "$FAILING" || exit 5'
    executable(tmp_path / "bin" / "toto-patch", f"#!/bin/sh\n{tool}\n")
    script = tmp_path / "deployed" / "scripts" / "apply_and_test.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "apply_and_test.sh", script)
    calls, report = tmp_path / "calls", tmp_path / "out" / "report.md"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "CALLS": str(calls), "FAILING": failing}
    done = subprocess.run(
        ["bash", script, "--quick", "--profile", "full-graph", "--root", "r", "--report", "out"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    commands = [line.split()[2] for line in calls.read_text().splitlines()]
    steps = ["apply", "verify-only", "accuracy", "bench"]
    step = failing.partition("|")[0]
    made = steps[: steps.index(step) + 1] if failing else steps
    assert commands == made + (["revert"] if step in steps[1:] else [])
    assert done.returncode == (5 if failing else 0), done.stderr
    given = ["--root r apply --backup --profile full-graph", "--root r verify-only --numerics --quick"]
    assert calls.read_text().splitlines()[:2] == given[: len(made)]
    page = report.read_text()
    assert all(f"said of --root r {step}" in page for step in made)
    assert ("Passed." in page) == (not failing) and ("FAILED" in page) == (step in steps[1:])
    assert ("the originals are back" in done.stderr) == (failing in steps[1:])
    assert ("STILL PATCHED" in done.stderr and "STILL PATCHED" in page) == ("revert" in failing)
