"""What the guides tell their readers to type is typed here: every block of shell and of Python, on real trees."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
GUIDES = ("production.md", "troubleshooting.md")
PROFILES = ("full-graph", "graph-breaks", None)

Project = Callable[[str | None], Path]


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language in a page of docs/, in order."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def environment(project: Path) -> dict[str, str]:
    """As after an installation: the command on the PATH, the modules importable, nobody's settings."""
    own = ("TOTO", "TORCH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own) or name.endswith("THREADS")}
    paths = [str(REPOSITORY), str(REPOSITORY / "toto_patcher" / "compat"), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "PATH": f"{project / 'bin'}:{kept['PATH']}",
        "PYTHONPATH": os.pathsep.join(paths),
    }


def run(command: list[str], project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    settings = environment(project) | variables
    return subprocess.run(command, cwd=project, env=settings, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture
def project(fresh_toto: Callable[[str, Path], Path], tmp_path: Path) -> Project:
    """``project(profile)``: a folder that vendors Toto in vendor/toto and has the scripts beside it."""

    def make(profile: str | None) -> Path:
        (tmp_path / "vendor").mkdir()
        fresh_toto("0.2.0", tmp_path).rename(tmp_path / "vendor" / "toto")
        (tmp_path / "scripts").symlink_to(REPOSITORY / "scripts")
        tool = tmp_path / "bin" / "toto-patch"
        tool.parent.mkdir()
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m toto_patcher "$@"\n')
        tool.chmod(0o755)
        if profile:
            done = run([str(tool), "apply", "--backup", "--profile", profile], tmp_path)
            assert done.returncode == 0, done.stderr
        return tmp_path

    return make


@pytest.mark.parametrize("page", GUIDES)
def test_every_shell_block_of_a_guide_succeeds(page: str, project: Project) -> None:
    found = blocks(page, "sh")
    assert found
    folder = project("full-graph" if page == "troubleshooting.md" else None)
    for block in found:
        done = run(["bash", "-euo", "pipefail", "-c", block], folder)
        assert done.returncode == 0, f"{block}\nended with {done.returncode}:\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_the_production_guides_program_runs(profile: str | None, project: Project) -> None:
    program = "\n".join(blocks("production.md", "python"))
    facts = "import json; print(json.dumps([samples.shape, health, pipeline.profile, pipeline.compiled]))"
    # Inductor takes a minute for the others, and is not what is tested here.
    backend = "inductor" if profile == "full-graph" else "eager"
    done = run([sys.executable, "-c", f"{program}\n{facts}"], project(profile), TOTO_COMPILE_BACKEND=backend)
    if profile is None:
        # With what the program sets, this torch cannot compile it: the pipeline says so, and the gate closes.
        assert done.returncode == 1, done.stderr
        assert "torch.compile failed" in done.stderr and "not warm: ['compilation is lost" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[1024, 8], True, profile, True]
    assert "torch.compile failed" not in done.stderr


def test_every_file_that_a_page_links_to_exists() -> None:
    for page in sorted((REPOSITORY / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
