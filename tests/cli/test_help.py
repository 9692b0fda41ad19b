"""Help names every choice and fits the terminal; a shell completes the names; neither imports what a patch needs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from cli_driver import environment

from toto_patcher.cli import cli
from toto_patcher.patching import series


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command with what is typed for it, groups too."""
    yield " ".join(path), group
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


HELP = dict(commands())


def told(path: str, width: int) -> str:
    command = HELP[path]
    return command.get_help(click.Context(command, info_name=f"toto-patch {path}".strip(), terminal_width=width))


@pytest.mark.parametrize("path", HELP)
def test_help_is_whole_and_fits_the_terminal(path: str) -> None:
    text = told(path, 78)
    assert [line for line in text.splitlines() if len(line) > 78] == []
    assert [line for line in text.splitlines()[1:] if line.endswith("...")] == []


def test_help_names_what_an_option_takes() -> None:
    loaded = series.load()
    profiles, patches = sorted(loaded.profiles()), sorted(patch.id for patch in loaded.patches)
    for path in ("apply", "diff", "bench"):
        text = " ".join(told(path, 500).split())
        assert f"[one of: {', '.join(profiles)}]" in text
        assert f"[one of: {', '.join(patches)}]" in text
    assert "[one of: 0.1.3, 0.1.4, 0.2.0]" in told("vendor", 500)
    named = {"trading", "observability", "reduce-overhead", "tf32", "cuda", "candidates"}
    assert {name for name in named if name not in told("bench", 500)} == set()
    assert "max-autotune-no-cudagraphs" in told("env mode", 500)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("apply --profile f", ["full-graph"]),
        ("diff --patch st", ["static-decoder"]),
        ("show la", ["last-patch-head"]),
        ("bench --workload tr", ["trading"]),
        ("env mode max", ["max-autotune", "max-autotune-no-cudagraphs"]),
        ("re", ["recompilations", "recover", "revert"]),
    ],
)
def test_a_shell_completes_names_and_imports_nothing_heavy(typed: str, offered: list[str]) -> None:
    asked = {
        "_TOTO_PATCH_COMPLETE": "bash_complete",
        "COMP_WORDS": f"toto-patch {typed}",
        "COMP_CWORD": str(len(typed.split())),
    }
    code = """
import atexit, sys
atexit.register(lambda: print({"libcst", "torch", "numpy"} & set(sys.modules), file=sys.stderr))
from toto_patcher.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(**asked), capture_output=True, text=True)
    assert done.stdout.split(os.linesep)[:-1] == [f"plain,{name}" for name in offered], done.stderr
    assert done.stderr.strip() == "set()"
