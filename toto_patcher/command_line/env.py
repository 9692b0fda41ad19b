"""``toto-patch env``: its commands, and the calls. Only `test` needs torch."""

from __future__ import annotations

from pathlib import Path

import click

from toto_patcher import invocation
from toto_patcher.choices import SentencesGroup
from toto_patcher.invocation import F, global_options
from toto_patcher.runtime.environment import MODES


@click.group(name="env", cls=SentencesGroup)
@global_options
def env() -> None:
    """Write and explain .env.compile, which a shell or a service sources.

    What each variable means: docs/environment.md.
    """


def _options(command: F) -> F:
    """Adds --file and what every command has."""
    file = click.option(
        "--file",
        type=click.Path(path_type=Path),
        default=Path(".env.compile"),
        show_default=True,
        help="The file; its other lines are kept.",
    )
    return file(global_options(command))


@env.command()
@_options
def enable(file: Path) -> None:
    """Let pipelines compile: TOTO_COMPILE=1, TOTO_DISABLE_COMPILE=0."""
    from toto_patcher import env_file

    invocation.done(env_file.change(file, {"TOTO_DISABLE_COMPILE": "0", "TOTO_COMPILE": "1"}))


@env.command()
@_options
def disable(file: Path) -> None:
    """Let nothing compile, whatever a program asks for: TOTO_DISABLE_COMPILE=1."""
    from toto_patcher import env_file

    invocation.done(env_file.change(file, {"TOTO_DISABLE_COMPILE": "1", "TOTO_COMPILE": "0"}))


@env.command()
@click.argument("mode", type=click.Choice(MODES))
@_options
def mode(mode: str, file: Path) -> None:
    """Set the mode of torch.compile: TOTO_COMPILE_MODE."""
    from toto_patcher import env_file

    invocation.done(env_file.change(file, {"TOTO_COMPILE_MODE": mode}))


@env.command()
@_options
def status(file: Path) -> None:
    """Explain each variable: its value here and in the file, where it comes from, what it does; write nothing."""
    from toto_patcher import env_file

    invocation.done(env_file.status(file))


@env.command()
@_options
def test(file: Path) -> None:
    """Compile one small function as the file says, and compare it with the uncompiled one (needs torch)."""
    from toto_patcher import env_check

    with invocation.progress() as progress:
        result = env_check.check(file, progress)
    invocation.done(result)
