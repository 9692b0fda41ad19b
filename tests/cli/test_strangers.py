"""Promise 16: a tree and a record from a stranger can do nothing but be refused."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_driver import ATTENTION, UTIL, Run, environment, snapshot

WRITING = ("apply", "revert", "adopt")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def state(path: str, pristine: str, **changes: Any) -> dict[str, Any]:
    file = {"path": path, "pristine": pristine, "patched": None, "mode": 0o755, "backup": True, "patches": []}
    known = {"created": "2026-01-01T00:00:00+00:00", "tool_version": "0.1.0", "schema_version": 1}
    return known | {"patches": ["kv-cache-tensor-index"], "files": [file], "profile": "graph-breaks"} | changes


HOOK = b"#!/bin/sh\ntouch PWNED\n"


@pytest.mark.parametrize("command", WRITING)
@pytest.mark.parametrize(
    "path",
    [
        ".git/hooks/post-checkout",
        ".GIT/hooks/post-checkout",
        "toto/../.git/hooks/post-checkout",
        ".github/workflows/ci.yml",
        "toto/.git/hooks/post-checkout",
        "Makefile",
        "toto/model/__pycache__/util.cpython-311.pyc",
        "toto/model/util.so",
        "toto/model/u\u200btil.py",
    ],
)
def test_a_record_cannot_name_what_is_no_source_of_the_package(
    committed: Path, toto_patch: Run, path: str, command: str
) -> None:
    backups = committed / ".toto-patch" / "backups"
    backups.mkdir(parents=True)
    (backups / digest(HOOK)).write_bytes(HOOK)
    (committed / ".toto-patch" / "state.json").write_text(json.dumps(state(path, digest(HOOK))))
    before = snapshot(committed)
    done = toto_patch(command, "--root", committed)
    assert done.returncode == 3 and "state.json" in done.stderr, done.stderr
    after = snapshot(committed)
    assert {name: data for name, data in after.items() if not name.startswith(".toto-patch/")} == {
        name: data for name, data in before.items() if not name.startswith(".toto-patch/")
    }


@pytest.mark.parametrize(
    ("command", "phase"),
    [
        *((command, "journal") for command in (*WRITING, "recover")),
        *(("recover", phase) for phase in ("prepare", "undo", "done")),
    ],
)
@pytest.mark.parametrize("name", [".git/config", "Makefile"])
def test_a_journal_cannot_name_what_is_not_of_the_package(
    committed: Path, toto_patch: Run, phase: str, command: str, name: str
) -> None:
    config = committed / name
    if not config.exists():
        config.write_bytes(b"all:\n")
    known = config.read_bytes()
    evil = known + b'[core]\n\tfsmonitor = "touch PWNED; false"\n'
    backups = committed / ".toto-patch" / "backups"
    backups.mkdir(parents=True)
    (backups / digest(evil)).write_bytes(evil)
    entry = {"path": name, "before": digest(known), "after": digest(evil)}
    entry["temporary"] = ".toto-patch-0123456789abcdef-0.tmp"
    journal = {"entries": [entry], "schema_version": 1}
    (committed / ".toto-patch" / f"{phase}.json").write_text(json.dumps(journal))
    assert toto_patch(command, "--root", committed).returncode == 3
    assert config.read_bytes() == known


@pytest.mark.parametrize("field", ["profile", "release", "tool_version", "created"])
@pytest.mark.parametrize("text", ["a\x1b[2J\x1b]0;pwn\x07", "a\n  ok  outputs  proved equal", "a\u202eb", "\ud800"])
def test_no_label_of_a_record_reaches_the_terminal_unchecked(
    patched: Path, toto_patch: Run, field: str, text: str
) -> None:
    record = patched / ".toto-patch" / "state.json"
    record.write_text(json.dumps(json.loads(record.read_bytes()) | {field: text}))
    for command in ("status", "verify-only"):
        done = toto_patch(command, "--root", patched)
        assert done.returncode == 3 and field in done.stderr
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr)
        assert "proved equal" not in done.stdout


def on_a_terminal(*arguments: object, cwd: Path) -> str:
    """What a command writes to a terminal."""
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "toto_patcher", *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=cwd, env=environment(TERM="xterm"), stdin=child, stdout=child, stderr=child
    ) as process:
        os.close(child)
        parts = []
        try:
            while part := os.read(parent, 65536):
                parts.append(part)
        except OSError:  # the other end was closed
            pass
        process.wait()
    os.close(parent)
    return b"".join(parts).decode(errors="replace")


def test_a_file_name_cannot_command_the_terminal(toto: Path, tmp_path: Path) -> None:
    shutil.copy(toto / UTIL, toto / "toto" / "model" / "a\x1b]0;pwn\x07\n  ok  proved.py")
    for command in ("apply", "status", "verify-only", "diff"):
        told = on_a_terminal(command, "--root", toto, cwd=tmp_path)
        assert "\x1b]0;pwn" not in told and "\n  ok  proved" not in told.replace("\r", ""), told


def test_the_mode_of_a_record_gives_no_special_bits(patched: Path, toto_patch: Run) -> None:
    record = patched / ".toto-patch" / "state.json"
    content = json.loads(record.read_bytes())
    for file in content["files"]:
        file["mode"] = 0o4777
    record.write_text(json.dumps(content))
    assert toto_patch("revert", "--root", patched).returncode == 3


@pytest.mark.parametrize("name", ["state.json", "journal.json", "lock"])
def test_a_huge_record_is_refused_without_reading_it(toto: Path, toto_patch: Run, name: str) -> None:
    folder = toto / ".toto-patch"
    folder.mkdir()
    with (folder / name).open("wb") as stream:
        stream.truncate(6 * 1024**3)
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 4000000; exec "$0" -m toto_patcher status --root "$1"', sys.executable, str(toto)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if name == "lock" else 3), done.stderr


def test_what_is_made_as_root_belongs_to_the_owner_of_the_tree(toto: Path, toto_patch: Run) -> None:
    if os.geteuid() != 0:
        pytest.fail("run as root: what root makes in somebody's tree is what this is about")
    for path in (toto, *toto.rglob("*")):
        os.chown(path, 12345, 12345)
    assert toto_patch("apply", "--profile", "full-graph", "--root", toto).returncode == 0
    strange = [path for path in toto.rglob("*") if path.stat().st_uid != 12345 and "__pycache__" not in path.parts]
    assert strange == []


def test_the_backup_of_a_private_source_is_private(toto: Path, toto_patch: Run) -> None:
    (toto / UTIL).chmod(0o600)
    assert toto_patch("apply", "--root", toto).returncode == 0
    backups = {
        digest(path.read_bytes()): path.stat().st_mode & 0o777 for path in (toto / ".toto-patch" / "backups").iterdir()
    }
    private = json.loads((toto / ".toto-patch" / "state.json").read_bytes())["files"]
    found = {file["path"]: backups[file["pristine"]] for file in private}
    assert found[UTIL] == 0o600 and found[ATTENTION] == 0o644


def test_an_added_file_cannot_be_given_an_original(toto: Path, toto_patch: Run) -> None:
    """Found by the fuzzer: revert took other bytes of a pinned release for the original of an added file."""
    assert toto_patch("apply", "--profile", "full-graph", "--root", toto).returncode == 0
    record = toto / ".toto-patch" / "state.json"
    content = json.loads(record.read_bytes())
    added = next(file for file in content["files"] if file["pristine"] is None)
    added["pristine"] = digest((toto / ATTENTION).read_bytes())
    record.write_text(json.dumps(content))
    before = snapshot(toto)
    for command in ("revert", "apply"):
        done = toto_patch(command, "--root", toto)
        assert done.returncode == 3, done.stderr
    assert snapshot(toto) == before
