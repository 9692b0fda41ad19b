"""env: what it writes into .env.compile, what it keeps, and how it explains it. Its file is sourced by a real shell."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from cli_driver import REPOSITORY, Run, document, environment
from json_page import COMMON, differences, documented

from toto_patcher import env_file
from toto_patcher.supported import install_hint

NAMES = ("TOTO_DISABLE_COMPILE", "TOTO_COMPILE", "TOTO_COMPILE_MODE")


def sourced(file: Path, **before: str) -> dict[str, str]:
    """The three variables of a shell that has sourced the file."""
    shown = "; ".join(f'echo "${{{name}-unset}}"' for name in NAMES)
    command = ["bash", "-c", f'. "$1" >/dev/null; {shown}', "bash", str(file)]
    done = subprocess.run(command, env=environment(**before), capture_output=True, text=True, check=True)
    return dict(zip(NAMES, done.stdout.splitlines(), strict=True))


def test_what_it_writes_is_what_a_shell_takes_over(toto_patch: Run, tmp_path: Path) -> None:
    file = tmp_path / ".env.compile"
    assert toto_patch("env", "disable").returncode == 0
    assert sourced(file) == {"TOTO_DISABLE_COMPILE": "1", "TOTO_COMPILE": "0", "TOTO_COMPILE_MODE": "unset"}
    assert toto_patch("env", "mode", "max-autotune").returncode == toto_patch("env", "enable").returncode == 0
    on = {"TOTO_DISABLE_COMPILE": "0", "TOTO_COMPILE": "1", "TOTO_COMPILE_MODE": "max-autotune"}
    assert sourced(file, TOTO_DISABLE_COMPILE="1") == on, "enable undoes what was sourced before"
    content, written = file.read_bytes(), file.stat().st_mtime_ns
    again = toto_patch("env", "enable")
    assert "nothing was written" in again.stdout and (file.read_bytes(), file.stat().st_mtime_ns) == (content, written)
    assert [path.name for path in tmp_path.iterdir()] == [".env.compile"]


THEIRS = """\
# ours, don't touch
export CUDA_VISIBLE_DEVICES=0
if [ -n "${CI-}" ]; then
  export TOTO_COMPILE=0
fi
export TOTO_COMPILE=0 # for now
NOTE="two
TOTO_COMPILE=0
lines"
export TOTO_COMPILE_MODE="default"
export CACHE=$HOME/x"""


def test_other_lines_and_the_mode_of_the_file_stay(toto_patch: Run, tmp_path: Path) -> None:
    real, link = tmp_path / "real file", tmp_path / "link"
    real.write_bytes(THEIRS.encode() + b" # \xff")
    real.chmod(0o600)
    link.symlink_to(real)
    for _ in range(2):
        assert toto_patch("env", "enable", "--file", "link").returncode == 0
    found = {"TOTO_DISABLE_COMPILE": "0", "TOTO_COMPILE": "1", "TOTO_COMPILE_MODE": "default"}
    assert sourced(real) == sourced(real, CI="1") == found
    kept = [line for line in THEIRS.splitlines() if line not in (THEIRS.splitlines()[5], THEIRS.splitlines()[9])]
    lines = real.read_bytes().splitlines()
    assert lines[: len(kept)] == [*(line.encode() for line in kept[:-1]), kept[-1].encode() + b" # \xff"]
    assert link.is_symlink() and stat.S_IMODE(real.stat().st_mode) == 0o600 and len(lines) == len(kept) + 4


def test_status_explains_every_variable_and_writes_nothing(toto_patch: Run, tmp_path: Path) -> None:
    fresh = toto_patch("env", "status")
    assert fresh.returncode == 0 and "There is no .env.compile" in fresh.stdout and not list(tmp_path.iterdir())
    toto_patch("env", "disable")
    told = toto_patch("env", "status", env={"TOTO_COMPILE": "1", "TORCHDYNAMO_CACHE_SIZE_LIMIT": "9"})
    assert "Here: a pipeline compiles: mode reduce-overhead" in told.stdout
    assert "After `source .env.compile`: nothing is compiled: TOTO_DISABLE_COMPILE=1." in told.stdout
    assert "TOTO_COMPILE: 1 (environment; .env.compile says 0)" in told.stdout
    assert "problem: TORCHDYNAMO_CACHE_SIZE_LIMIT is set, but torch.compile does not read it" in told.stdout
    broken = toto_patch("env", "status", env={"TOTO_COMPILE_MODE": "fastest"})
    assert broken.returncode == 2 and "problem: TOTO_COMPILE_MODE is 'fastest', expected default" in broken.stdout


AROUND = {
    "if": "if true; then\n@\nfi\n",
    "if in one line": "if true; then @; fi\n",
    "else": "if false; then :\nelse\n@\nfi\n",
    "never": "if false; then\n@\nfi\n",
    "for": "for i in 1 2; do\n  @\ndone\n",
    "while": 'while [ -z "${once-}" ]; do\n@\nonce=1\ndone\n',
    "case": "case x in\n  x)\n    @\n    ;;\nesac\n",
    "function": "f() {\n@\n}\n",
    "function that is called": "f() {\n@\n}\nf\n",
    "braces": "{\n@\n}\n",
    "subshell": "(\n@\n)\n",
    "and": "true &&\n@\n",
    "or": "false || # why\n@\n",
    "not reached": "false &&\n\n@\n",
    "continued": "echo \\\n@\n",
    "continued word": "export A=1 \\\n  @\n",
    "here-document": "cat <<EOF\n@\nEOF\n",
    "here-document, quoted": "cat <<'a b' >/dev/null\n@ don't\na b\n",
    "here-document, tabs": "cat <<-X\n\t@\n\tX\n",
    "two here-documents": "cat <<A; cat <<B\n@\nA\n@\nB\n",
    "quotation": "NOTE='\n@\n'\n",
    "array": "names=(\n@\n)\n",
    "substitution": "now=$(\n@\necho 1)\n",
    "comment": "# it's \\\n@\n",
    "hash in a word": "export TOTO_COMPILE_MODE=a#b\n@\n",
    "command's own": "@ true\n",
    "expanded": "export TOTO_COMPILE=${TOTO_COMPILE:-1}\n@\n",
    "unset": "@\nunset TOTO_COMPILE\n",
    "shift": "n=$((1 << 2))\n@\n",
    "no line break at the end": "@",
    "a line break to come": "echo 1 \\\n",
    "all": "set -a\n@\nset +a\n",
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("line", ["export TOTO_COMPILE=1", "TOTO_COMPILE_MODE=default"])
def test_whatever_surrounds_a_line_a_shell_reads_the_file_and_what_is_reported_holds(
    around: str, line: str, tmp_path: Path
) -> None:
    file = tmp_path / "e"
    for command, wanted in (("disable", "1"), ("enable", "0"), ("disable", "1")):
        file.write_text(AROUND[around].replace("@", line))
        for _ in range(2):  # the second time, it is as it was written
            values = {"TOTO_DISABLE_COMPILE": wanted, "TOTO_COMPILE": "0" if command == "disable" else "1"}
            env_file.change(file, values)
            told = env_file.assignments(file.read_text())
            found = sourced(file)
            assert found == {**found, **told}, "what is reported holds"
            assert told == {**told, **values}
            assert file.read_text().count("Written by") == 1


@pytest.mark.parametrize("around", AROUND)
def test_what_status_says_of_a_file_holds_or_is_said_to_be_unknown(around: str, tmp_path: Path) -> None:
    file = tmp_path / "e"
    file.write_text(AROUND[around].replace("@", "export TOTO_COMPILE=1") + "\n")
    found, told = sourced(file), env_file.assignments(file.read_text())
    assert found == {**found, **{name: value for name, value in told.items() if name in NAMES}}
    document = env_file.status(file).document
    unknown = [name for name in NAMES if any(told.startswith(f"{name} in ") for told in document["problems"])]
    assert all(found[name] == "unset" for name in NAMES if name not in told and name not in unknown)
    assert ("not known" in document["sourced"]) == bool(unknown)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[ -n "${HOME-}" ] || return\n', 1),
        ("a=1\nif false; then\n  exit 0\nfi\n", 3),
        ("export A=${B:?must be set}\n", 1),
        ("readonly TOTO_COMPILE=1\n", 1),
        ("set -eu\nfalse\n", 1),
        ("export() { :; }\n", 1),
    ],
)
def test_a_file_that_may_end_early_is_refused_with_the_line(
    text: str, line: int, toto_patch: Run, tmp_path: Path
) -> None:
    (tmp_path / "e").write_text(text)
    refused = toto_patch("env", "disable", "--file", "e")
    assert refused.returncode == 2 and f"e:{line}" in refused.stderr and "source it last" in refused.stderr
    assert (tmp_path / "e").read_text() == text


@pytest.mark.parametrize("text", ["if true; then\n", "cat <<EOF\n", "f() {\n", "fi\n", "A=$(\n", "export A='\n"])
@pytest.mark.parametrize("command", ["disable", "status", "test"])
def test_a_file_that_no_shell_can_read_is_named(text: str, command: str, toto_patch: Run, tmp_path: Path) -> None:
    (tmp_path / "e").write_text(text)
    refused = toto_patch("env", command, "--file", "e")
    assert refused.returncode == 2 and "a shell cannot read it" in refused.stderr
    assert (tmp_path / "e").read_text() == text


@pytest.mark.parametrize(
    "name", ["a\nexport TOTO_COMPILE=9", "a\r\ntouch PWNED\n", "a\u2028b", "\x1b[2J", "\udcff"], ids=ascii
)
def test_no_name_of_a_file_ends_the_comment_in_it(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    env_file.change(file, {"TOTO_COMPILE": "0"})
    assert sourced(file)["TOTO_COMPILE"] == "0" and [path.name for path in tmp_path.iterdir()] == [name]
    assert [line.partition(" ")[0] for line in file.read_text().splitlines()] == ["#", "export"]


@pytest.mark.parametrize("command", [("enable",), ("disable",), ("mode", "default"), ("status",)])
def test_each_answers_with_one_document(command: tuple[str, ...], toto_patch: Run) -> None:
    for arguments in (("env", *command, "--json"), ("--json", "env", *command)):
        found = document(toto_patch(*arguments))
        pages = documented()
        assert differences(found, pages[COMMON] | pages["env"]) == []
        assert differences(found["document"], pages["What env says"]) == []


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("mode", "fastest"), 2, "'fastest' is not one of"),
        (("mode",), 2, "Missing argument"),
        ((), 2, ""),
        (("enable", "--file", "."), 2, "is not a file"),
        (("enable", "--file", "open"), 2, "quotation"),
        (("enable", "--file", "nowhere/.env"), 4, "ENOENT"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, ...], status: int, told: str, toto_patch: Run, tmp_path: Path
) -> None:
    (tmp_path / "open").write_text("A='x\n")
    done = toto_patch("env", *arguments)
    assert done.returncode == status and told in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["open"]


def test_only_its_test_needs_torch(toto_patch: Run, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    without = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    for command in (("enable",), ("status",)):
        assert toto_patch("env", *command, env=without).returncode == 0
    refused = toto_patch("env", "test", env=without)
    assert refused.returncode == 2 and install_hint("runtime") in refused.stderr
    toto_patch("env", "disable")
    assert "nothing to test" in toto_patch("env", "test", env=without).stdout


def test_its_test_compiles_as_the_file_says(toto_patch: Run, tmp_path: Path) -> None:
    (tmp_path / ".env.compile").write_text("export TOTO_COMPILE_BACKEND=eager\n")
    done = toto_patch("env", "test", "--json")
    found = document(done)["document"]
    assert done.returncode == 0 and found["compiled"] and (found["backend"], found["mode"]) == ("eager", None)
    assert differences(found, documented()["What env test says"]) == []


def test_its_test_is_not_satisfied_where_torch_compiles_nothing(toto_patch: Run) -> None:
    off = {"TORCH_COMPILE_DISABLE": "1", "TOTO_COMPILE_BACKEND": "eager"}
    done = toto_patch("env", "test", env=off)
    assert done.returncode == 1 and "FAILED: mode of the backend, backend eager" in done.stdout
    assert "note: TORCH_COMPILE_DISABLE=1: torch compiles nothing" in done.stdout and "Warning" not in done.stderr
