"""What all commands of the command line share: options, settings, and one way to report and to exit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toto_patcher import choices

if TYPE_CHECKING:
    from toto_patcher.results import ErrorResult, Result

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Settings:
    """The options that every command shares; they may stand before or after the command's name."""

    root: Path | None = None
    json: bool = False
    verbose: bool = False
    command: str = "toto-patch"


def settings() -> Settings:
    """Those of the command that runs."""
    return click.get_current_context().ensure_object(Settings)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and param.name:
        setattr(ctx.ensure_object(Settings), param.name, value)


_SHARED: dict[str, Any] = {"expose_value": False, "callback": _remember}


def global_options(command: F) -> F:
    """Adds --root, --json and --verbose."""
    json = click.option("--json", is_flag=True, help="Print one JSON document on stdout and nothing else.", **_SHARED)
    return json(tree_options(command))


def tree_options(command: F) -> F:
    """Adds --root and --verbose, for a command with a --json of its own."""
    for option in (
        click.option(
            "--verbose", is_flag=True, help="Log each step to stderr; show what passed, and tracebacks.", **_SHARED
        ),
        click.option(
            "--root",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="The folder that holds the Toto package.  [default: TOTO_PATCH_ROOT, [tool.toto-patch] root in "
            "pyproject.toml, vendor/toto at or above the current folder]",
            **_SHARED,
        ),
    ):
        command = option(command)
    return command


def document_options(command: F) -> F:
    """Adds --root, --verbose and a --json that may name a file for the raw document, passed on as ``file``."""
    json = click.option(
        "--json",
        "file",
        is_flag=False,
        flag_value="-",
        metavar="[FILE]",
        callback=_document,
        help="Write the raw document to a file; without one, print one JSON document on stdout and nothing else.",
    )
    return tree_options(json(command))


def _document(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """A command's own ``--json``: with FILE the raw document goes there; alone it prints one, as for every command."""
    settings = ctx.ensure_object(Settings)
    before = (
        ctx.parent is not None and ctx.parent.get_parameter_source("json") is click.core.ParameterSource.COMMANDLINE
    )
    settings.json = before or value == "-"
    return None if value in (None, "-") else Path(value)


def with_options(command: F, options: Sequence[Callable[[F], F]]) -> F:
    """Adds options, shown in their order."""
    for option in reversed(options):
        command = option(command)
    return command


def selection_options(command: F) -> F:
    """Adds --profile and --patch."""
    patch = click.option(
        "--patch", "ids", multiple=True, metavar="ID", help="A patch to select; repeatable.", **choices.PATCH
    )
    default = "The profile to select.  [default: the one in force, else graph-breaks]"
    return click.option("--profile", metavar="P", help=default, **choices.PROFILE)(patch(command))


class ReportingGroup(choices.SentencesGroup):
    """A group whose every outcome goes through ``report`` and ends in one of the documented exit codes.

    Args:
        rooms: names of commands that are each in a file of their own in ``command_line``, imported when asked for: to
            declare the options of all would cost every command a tenth of its time.
    """

    def __init__(self, *args: Any, rooms: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.rooms = tuple(rooms)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, sorted."""
        return sorted({*super().list_commands(ctx), *self.rooms})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, if there is one."""
        if cmd_name in self.rooms and cmd_name not in self.commands:
            from importlib import import_module

            self.add_command(getattr(import_module(f"toto_patcher.command_line.{cmd_name}"), cmd_name))
        return super().get_command(ctx, cmd_name)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Runs a command and exits."""
        arguments = list(sys.argv[1:] if args is None else args)
        # Known before parsing, so that a command line that cannot be parsed is answered in JSON too.
        own = arguments[: arguments.index("--")] if "--" in arguments else arguments
        settings = Settings(json="--json" in own, verbose="--verbose" in own)
        extra.update(standalone_mode=False, obj=settings)
        try:
            outcome = super().main(arguments, *rest, **extra)
            code = outcome if isinstance(outcome, int) else 0
        except Exception as error:
            code = _fail(error, settings)
        from toto_patcher.terminal import flush_or_silence

        flush_or_silence()
        sys.exit(code)


def _fail(error: Exception, settings: Settings) -> int:
    from toto_patcher import report

    if isinstance(error, click.Abort):
        result = report.interrupted(settings.command, settings.root)
    elif isinstance(error, click.ClickException):
        context: click.Context | None = getattr(error, "ctx", None)
        hint = f"`{context.command_path} --help` lists what there is." if context else None
        result = report.usage_failure(error.format_message(), command=settings.command, hint=hint)
    else:
        result = report.failure(error, command=settings.command, verbose=settings.verbose)
    return _emit(result, settings)


def _emit(result: Result | ErrorResult, settings: Settings) -> int:
    from toto_patcher import report

    return report.emit(result, as_json=settings.json, verbose=settings.verbose)


def done(result: Result | ErrorResult) -> None:
    """Reports what a command found or did, and exits."""
    click.get_current_context().exit(_emit(result, settings()))


def progress(*, lines: bool = False) -> Any:
    """Shows progress, as a context manager; nothing with --json. With ``lines``, a line a step where is no terminal."""
    from toto_patcher.progress import progress

    return progress(enabled=not settings().json, lines=lines)
