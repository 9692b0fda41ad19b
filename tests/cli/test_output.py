"""Where output goes and what it looks like: pipes, terminals, NO_COLOR, JSON, and what is not imported."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_driver import REPOSITORY, UTIL, Run, document, edit, environment, snapshot
from json_page import COMMON, FAILURES, commands, differences, documented

from toto_patcher import renderers
from toto_patcher.cli import cli
from toto_patcher.terminal import PlainSurface

ESCAPE = "\x1b"
LOOKING = (["list"], ["show", "kv-cache-tensor-index"], ["diff"], ["status"], ["verify-only"], ["apply", "--check"])


def on_terminal(*arguments: object, **env: str) -> tuple[int, str]:
    """Runs the command with a terminal as stdout and stderr; returns the exit status and what it showed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "toto_patcher", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**{"TERM": "xterm-256color", **env})
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    return process.wait(), shown.decode()


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_output_into_a_pipe_is_plain_text(command: list[str], toto: Path, toto_patch: Run) -> None:
    done = toto_patch(*command, "--root", toto)
    assert done.stdout and ESCAPE not in done.stdout + done.stderr


def test_a_terminal_gets_colour(toto: Path) -> None:
    code, shown = on_terminal("status", "--root", toto)
    assert code == 0 and ESCAPE in shown


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
@pytest.mark.parametrize("command", [["status"], ["diff"], ["apply", "--profile", "unknown"]], ids=" ".join)
def test_a_terminal_that_wants_no_colour_gets_none(command: list[str], env: dict[str, str], toto: Path) -> None:
    _, shown = on_terminal(*command, "--root", toto, **env)
    assert shown and ESCAPE not in shown


def test_colour_and_plain_text_say_the_same(toto: Path, toto_patch: Run) -> None:
    import re

    _, shown = on_terminal("show", "kv-cache-tensor-index", "--root", toto)
    plain = toto_patch("show", "kv-cache-tensor-index", "--root", toto).stdout
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in shown.splitlines()]
    assert lines == [line.rstrip() for line in plain.splitlines()]


@pytest.mark.parametrize(
    "command",
    [*LOOKING, ["apply"], ["apply", "--dry-run"], ["recover"], ["revert"], ["apply", "--bogus"], ["bogus"], []],
)
def test_json_is_one_document_and_nothing_else(command: list[str], toto: Path, toto_patch: Run) -> None:
    for arguments in (["--json", *command, "--root", toto], [*command, "--root", toto, "--json"]):
        if not command and arguments[0] != "--json":
            continue
        done = toto_patch(*arguments) if command else toto_patch("--json")
        found = document(done)
        assert done.stderr == ""
        assert found["schema"] == 1
        assert found["exit_code"] == done.returncode
        assert found["ok"] == (done.returncode == 0)
        if command and "bogus" not in command[0]:
            assert found["command"] == command[0]


def test_json_of_a_refusal_names_kind_place_and_next_step(toto: Path, toto_patch: Run) -> None:
    line = edit(toto, UTIL, "class KVCache:", "class KVCache(:")
    done = toto_patch("apply", "--json", "--root", toto)
    error = document(done)["error"]
    assert done.returncode == 3 and done.stderr == ""
    assert (error["kind"], error["path"], error["line"]) == ("unknown-source", UTIL, line)
    assert error["message"] and error["hint"]


DOCUMENTED = documented()


@pytest.mark.parametrize(
    "commands",
    [
        [["list"]],
        [["show", "kv-cache-tensor-index"]],
        [["diff"]],
        [["apply", "--check"]],
        [["apply", "--dry-run"]],
        [["apply"]],
        [["apply"], ["revert"]],
        [["revert"]],
        [["verify-only"]],
        [["apply"], ["verify-only"]],
        [["status"]],
        [["apply"], ["status"]],
        [["recover"]],
        [["vendor", "--from-path", "TREE", "--root", "new"]],
    ],
    ids=lambda commands: ", ".join(" ".join(command) for command in commands),
)
def test_documented_keys_are_exactly_those_printed(commands: list[list[str]], toto: Path, toto_patch: Run) -> None:
    subprocess.run(["git", "init", "--quiet", toto], check=True)  # so that status has something to say of git
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "-C", toto, *identity, "commit", "--quiet", "--allow-empty", "-m", "Empty"], check=True)
    for command in commands:
        arguments = [str(toto) if word == "TREE" else word for word in command]
        found = document(toto_patch("--root", toto, "--json", *arguments))
    assert differences(found, DOCUMENTED[COMMON] | DOCUMENTED[found["command"]]) == []
    assert command[0] != "status" or found["git"]


@pytest.mark.parametrize("command", [["apply", "--bogus"], ["show", "no-such-patch"], ["status", "--root", "nowhere"]])
def test_documented_keys_of_a_failure_are_exactly_those_printed(command: list[str], toto_patch: Run) -> None:
    assert differences(document(toto_patch(*command, "--json")), DOCUMENTED[COMMON] | DOCUMENTED[FAILURES]) == []


def test_every_command_has_a_table() -> None:
    assert set(cli.list_commands(click.Context(cli))) == commands() and commands() <= set(DOCUMENTED)


@pytest.mark.parametrize("command", [["diff"], ["diff", "--json"], ["apply", "--check"]], ids=" ".join)
def test_a_reader_that_leaves_early_is_no_error(command: list[str], toto: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # nobody reads: the first write meets a broken pipe
    done = subprocess.run(
        [sys.executable, "-m", "toto_patcher", *command, "--root", str(toto)],
        stdout=writing,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == (1 if "--check" in command else 0)


def test_a_full_disk_behind_stdout_is_4(toto: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "toto_patcher", "status", "--root", str(toto)],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            check=False,
        )
    assert done.returncode == 4 and "ENOSPC" in done.stderr and "Traceback" not in done.stderr


def test_the_diff_is_accepted_by_git_apply(toto: Path, toto_patch: Run) -> None:
    text = toto_patch("diff", "--root", toto).stdout
    done = subprocess.run(["git", "apply", "-"], cwd=toto, input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    by_git = {path: data for path, data in snapshot(toto).items() if path.endswith(".py")}
    subprocess.run(["git", "apply", "-R", "-"], cwd=toto, input=text, text=True, check=True)
    assert toto_patch("apply", "--root", toto).returncode == 0
    assert {path: data for path, data in snapshot(toto).items() if path.endswith(".py")} == by_git


@pytest.mark.parametrize("folder", [".", "vendor/toto"])
def test_git_apply_takes_the_diff_of_a_root_below_the_top_of_a_repository(
    folder: str, toto: Path, toto_patch: Run, tmp_path: Path
) -> None:
    top = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", top], check=True)
    (top / "vendor").mkdir()
    root = toto.rename(top / "vendor" / "toto")
    text = toto_patch("diff", "--root", root).stdout
    command = ["git", "apply", "--directory=vendor/toto"]
    assert command[-1] in (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    assert " ".join(command) in " ".join(toto_patch("diff", "--help").stdout.split())
    subprocess.run(command, cwd=top / folder, input=text, text=True, check=True)
    by_git = (root / UTIL).read_bytes()
    subprocess.run([*command, "-R"], cwd=top / folder, input=text, text=True, check=True)
    assert toto_patch("apply", "--root", root).returncode == 0
    assert (root / UTIL).read_bytes() == by_git


@pytest.mark.parametrize(
    "command", [["diff"], ["apply", "--dry-run"], ["status"], ["verify-only"], ["apply", "--check"]]
)
@pytest.mark.parametrize("tree", ["toto", "patched"])
def test_looking_writes_nothing(command: list[str], tree: str, request: pytest.FixtureRequest, toto_patch: Run) -> None:
    root: Path = request.getfixturevalue(tree)
    before = snapshot(root)
    toto_patch(*command, "--root", root)
    assert snapshot(root) == before


@pytest.mark.parametrize(
    "command", [*LOOKING, ["apply"], ["apply", "--dry-run"], ["revert"], ["recover"], ["vendor", "--version", "9.9"]]
)
def test_no_command_imports_torch_or_what_it_has_no_use_for(command: list[str], toto: Path) -> None:
    code = (
        "import sys, atexit, json\n"
        "atexit.register(lambda: sys.stderr.write(json.dumps([m for m in sys.modules if '.' not in m])))\n"
        "from toto_patcher.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--root", str(toto), "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = set(json.loads(done.stderr[done.stderr.index("[") :]))
    assert not loaded & {"torch", "numpy", "pydantic", "rich", "matplotlib"}
    if command[0] not in ("status", "vendor"):
        assert "git" not in loaded


def test_global_options_stand_before_or_after_the_command(toto: Path, toto_patch: Run) -> None:
    assert toto_patch("--root", toto, "status").stdout == toto_patch("status", "--root", toto).stdout


def test_verbose_logs_go_to_stderr(toto: Path, toto_patch: Run) -> None:
    assert toto_patch("status", "--verbose", "--root", toto).stdout == toto_patch("status", "--root", toto).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_there(shell: str) -> None:
    from click.testing import CliRunner

    done = CliRunner().invoke(
        cli,
        [],
        prog_name="toto-patch",
        env={"_TOTO_PATCH_COMPLETE": f"{shell}_source"},
        complete_var="_TOTO_PATCH_COMPLETE",
    )
    assert done.exit_code == 0 and "_TOTO_PATCH_COMPLETE" in done.output


def test_progress_and_tracebacks_escape_what_comes_from_a_tree(capsys: pytest.CaptureFixture[str]) -> None:
    from toto_patcher import progress, report

    hostile = "a\x1b]0;pwned\x07\n\u202eb [red]x[/red]"
    with progress.progress(enabled=True, lines=True) as step:
        step(hostile, 1, 2)
    for as_json in (False, True):
        report.emit(report.failure(ValueError(hostile), command="status", verbose=True), as_json=as_json)
    told = capsys.readouterr()
    assert "\\x1b]0;pwned\\x07" in told.err and not {"\x1b", "\x07", "\u202e"} & set(told.err)
    assert not {"\x1b", "\x07"} & set(told.out)


def test_what_passed_is_one_line_and_verbose_shows_all(patched: Path, toto_patch: Run) -> None:
    short, whole = (toto_patch("verify-only", *more, "--root", patched) for more in ((), ("--verbose",)))
    assert (short.returncode, len(short.stdout.splitlines())) == (0, 2)
    assert "checks passed: journal, bytes, package, " in short.stdout
    checks = document(toto_patch("verify-only", "--json", "--root", patched))["checks"]
    assert whole.stdout.count("\n  ok ") == len(checks) > 5
    line = edit(patched, UTIL, "import torch", "import  torch")
    failed = toto_patch("verify-only", "--root", patched)
    assert [told.split()[:3] for told in failed.stdout.splitlines() if " FAILED " in told] == [
        ["FAILED", "bytes", f"{UTIL}:{line}:"]
    ]


@pytest.mark.parametrize("passed", [True, False])
def test_a_ladder_is_one_line_unless_a_check_fails(passed: bool) -> None:
    good = {"name": "point/tiny", "cases": 3, "worst_error": 1e-7, "bound": 1e-5, "verdict": "equal", "passed": True}
    other = {**good, "name": "teacher", "cases": 4, "verdict": "far", "passed": passed, "detail": "at step 3"}
    ladder = {"facts": {}, "checks": [good, other]}
    lines = {}
    for verbose in (False, True):
        told = io.StringIO()
        renderers.render_ladder(ladder, PlainSurface(told), verbose=verbose)
        lines[verbose] = told.getvalue().splitlines()
    assert ("2 checks passed" if passed else "1 check passed") in lines[False][0]
    assert len(lines[False]) == (1 if passed else 4) and len(lines[True]) == (4 if passed else 5)
    assert ("at step 3" in lines[False][-1]) != passed
