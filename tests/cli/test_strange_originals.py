"""A record with true fingerprints that is yet not what toto-patch wrote: nothing is put in place of anything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cli_driver import ATTENTION, UTIL, Run, snapshot

RECORD = Path(".toto-patch/state.json")


def test_a_record_cannot_name_a_source_that_no_patch_wrote(patched: Path, toto_patch: Run) -> None:
    victim, payload = patched / "app" / "main.py", b"import os\n"
    victim.parent.mkdir()
    victim.write_bytes(b"MINE = 1\n")
    digest = hashlib.sha256(payload).hexdigest()
    (patched / ".toto-patch/backups" / digest).write_bytes(payload)
    content = json.loads((patched / RECORD).read_bytes())
    known = {**content["files"][0], "path": "app/main.py", "pristine": digest}
    content["files"].append({**known, "patched": hashlib.sha256(victim.read_bytes()).hexdigest()})
    (patched / RECORD).write_text(json.dumps(content))
    before = snapshot(patched)
    for command in (["apply"], ["apply", "--profile", "full-graph"], ["revert"]):
        done = toto_patch(*command, "--root", patched)
        assert done.returncode == 3 and "app/main.py: is recorded as patched, but no patch wrote it" in done.stderr
        assert snapshot(patched) == before


@pytest.mark.parametrize("phase", ["prepare", "journal", "undo", "done"])
def test_a_path_too_deep_to_walk_is_refused(toto: Path, toto_patch: Run, phase: str) -> None:
    entry = {"path": "x/" * 3000 + "a.py", "before": None, "after": None, "temporary": f".toto-patch-{'0' * 16}-0.tmp"}
    (toto / ".toto-patch").mkdir()
    (toto / f".toto-patch/{phase}.json").write_text(json.dumps({"entries": [entry], "schema_version": 2}))
    for command in ("status", "apply", "recover"):
        done = toto_patch(command, "--root", toto)
        assert done.returncode == 3 and "longer than any path of a package" in done.stderr


@pytest.mark.parametrize("command", [["apply", "--profile", "full-graph"], ["revert"]], ids=" ".join)
def test_a_record_cannot_give_one_file_the_original_of_another(
    patched: Path, toto_patch: Run, command: list[str]
) -> None:
    content = json.loads((patched / RECORD).read_bytes())
    files = {file["path"]: file for file in content["files"]}
    files[UTIL]["pristine"], files[ATTENTION]["pristine"] = files[ATTENTION]["pristine"], files[UTIL]["pristine"]
    (patched / RECORD).write_text(json.dumps(content))
    before = snapshot(patched)
    done = toto_patch(*command, "--root", patched)
    assert done.returncode == 3 and "the recorded original is not what was patched here" in done.stderr
    assert snapshot(patched) == before
