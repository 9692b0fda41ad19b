"""What README says is what the project is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from toto_patcher import errors

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_excerpts_and_numbers_are_generated_from_their_sources() -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "update_readme.py"), "--check"], check=True)


def test_every_promise_has_a_test_of_its_name() -> None:
    section = README.split("## Promises about your files")[1].split("## ")[0]
    promises = re.findall(r"^\| (\d+) \|", section, flags=re.MULTILINE)
    files = sorted((ROOT / "tests" / "patching").glob("test_promises_*.py"))
    tests = "".join(path.read_text(encoding="utf-8") for path in files)
    assert promises == [str(number) for number in range(1, 17)]
    for number in map(int, promises):
        assert re.search(rf"def test_promise_(?:\d\d_and_)?{number:02d}_", tests), number


def test_the_exit_codes_are_those_of_the_errors() -> None:
    documented = {
        int(code) for code in re.findall(r"^\| (\d+) \| [a-z]", README.split("| exit |")[1], flags=re.MULTILINE)
    }
    raised = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TotoPatchError)
    }
    assert raised | {0, 130} <= documented


def test_every_file_it_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
