"""The command line: parses, calls, renders, exits. No logic, and nothing heavy is imported before a command runs."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toto_patcher import __version__

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


def _settings() -> Settings:
    return click.get_current_context().ensure_object(Settings)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and param.name:
        setattr(ctx.ensure_object(Settings), param.name, value)


def global_options(command: F) -> F:
    """Adds --root, --json and --verbose."""
    shared: dict[str, Any] = {"expose_value": False, "callback": _remember}
    for option in (
        click.option("--verbose", is_flag=True, help="Log each step to stderr; show tracebacks.", **shared),
        click.option("--json", is_flag=True, help="Print one JSON document on stdout and nothing else.", **shared),
        click.option(
            "--root",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="The folder that holds the Toto package.  [default: TOTO_PATCH_ROOT, [tool.toto-patch] root in "
            "pyproject.toml, vendor/toto at or above the current folder]",
            **shared,
        ),
    ):
        command = option(command)
    return command


def selection_options(command: F) -> F:
    """Adds --profile and --patch."""
    command = click.option("--patch", "ids", multiple=True, metavar="ID", help="A patch to select; repeatable.")(
        command
    )
    return click.option("--profile", metavar="P", help="The profile to select.  [default: graph-breaks]")(command)


class ReportingGroup(click.Group):
    """A group whose every outcome goes through ``report`` and ends in one of the documented exit codes."""

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
        result = report.interrupted(settings.command)
    elif isinstance(error, click.ClickException):
        context: click.Context | None = getattr(error, "ctx", None)
        hint = f"`{context.command_path} --help` lists what there is." if context else None
        result = report.usage_failure(error.format_message(), command=settings.command, hint=hint)
    else:
        result = report.failure(error, command=settings.command, verbose=settings.verbose)
    return _emit(result, settings)


def _emit(result: Result | ErrorResult, settings: Settings) -> int:
    from toto_patcher import report

    return report.emit(result, as_json=settings.json)


def _done(result: Result | ErrorResult) -> None:
    click.get_current_context().exit(_emit(result, _settings()))


def _progress() -> Any:
    from toto_patcher import report

    return report.progress(enabled=not _settings().json)


@click.group(
    cls=ReportingGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="toto-patch")
@global_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Patch a vendored Toto 1.0 for torch.compile, prove that its outputs did not change, put back every byte."""
    settings = _settings()
    if ctx.invoked_subcommand is None:
        if settings.json:
            raise click.UsageError("Missing command.", ctx)
        with suppress(OSError):  # the exit status says it too
            click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
    settings.command = ctx.invoked_subcommand
    if settings.verbose:
        import logging

        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


@cli.command()
@click.option("--version", "version", metavar="V", help="A pinned release.  [default: 0.2.0]")
@click.option("--from-git", metavar="URL", help="Take it from a git repository; needs --rev.")
@click.option("--rev", metavar="R", help="The revision of --from-git.")
@click.option("--from-path", type=click.Path(path_type=Path), metavar="DIR", help="Copy it from a folder.")
@click.option("--force", is_flag=True, help="Replace a tree that is patched or edited.")
@global_options
def vendor(version: str | None, from_git: str | None, rev: str | None, from_path: Path | None, force: bool) -> None:
    """Put a pinned Toto into vendor/toto and record every file's sha256."""
    from toto_patcher import commands

    if sum(value is not None for value in (version, from_git, from_path)) > 1:
        raise click.UsageError("--version, --from-git and --from-path exclude each other.")
    if (from_git is None) != (rev is None):
        raise click.UsageError("--from-git and --rev go together.")
    with _progress() as progress:
        result = commands.vendor(
            _settings().root,
            version=version,
            from_git=from_git,
            rev=rev,
            from_path=from_path,
            force=force,
            progress=progress,
        )
    _done(result)


@cli.command(name="list")
@click.option("--markdown", is_flag=True, help="Write docs/patches.md to stdout.")
@global_options
def list_(markdown: bool) -> None:
    """List the patches and profiles."""
    from toto_patcher import inspection, report

    if markdown and not _settings().json:
        click.get_current_context().exit(report.write(report.patches_markdown(inspection.catalogue())))
    else:
        _done(inspection.catalogue())


@cli.command()
@click.argument("patch")
@global_options
def show(patch: str) -> None:
    """Show why a patch exists, what it changes and where."""
    from toto_patcher import inspection

    _done(inspection.show(patch, _settings().root))


@cli.command()
@selection_options
@global_options
def diff(profile: str | None, ids: tuple[str, ...]) -> None:
    """Print what apply would write, as a diff that `git apply` accepts."""
    from toto_patcher import inspection

    _done(inspection.diff(_settings().root, profile, ids))


@cli.command()
@click.option("--backup/--no-backup", default=True, show_default=True, help="Keep the originals in .toto-patch/.")
@selection_options
@click.option("--dry-run", is_flag=True, help="Show what would be written; write nothing.")
@click.option("--check", is_flag=True, help="Exit 1 if anything would be written; write nothing.")
@click.option("--verify", is_flag=True, help="Keep the patches only if the outputs are proved unchanged (needs torch).")
@click.option("--commit", is_flag=True, help="Commit exactly the changed files to git.")
@global_options
def apply(
    profile: str | None, ids: tuple[str, ...], backup: bool, dry_run: bool, check: bool, verify: bool, commit: bool
) -> None:
    """Patch the tree, all or nothing. Another profile replaces the one in force."""
    if (dry_run or check) and commit:
        raise click.UsageError("--commit writes; --dry-run and --check do not.")
    from toto_patcher import commands

    with _progress() as progress:
        result = commands.apply(
            _settings().root,
            profile=profile,
            ids=ids,
            backup=backup,
            dry_run=dry_run,
            check=check,
            verify=verify,
            commit=commit,
            progress=progress,
        )
    _done(result)


@cli.command(name="verify-only")
@click.option("--numerics", is_flag=True, help="Also prove that the outputs did not change (needs torch).")
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="DIR", help="Prove it on this checkpoint.")
@click.option("--quick", is_flag=True, help="The short ladder.")
@global_options
def verify_only(numerics: bool, checkpoint: Path | None, quick: bool) -> None:
    """Check that the tree is patched and whole; write nothing."""
    if (checkpoint or quick) and not numerics:
        raise click.UsageError("--checkpoint and --quick belong to --numerics.")
    from toto_patcher import inspection

    with _progress() as progress:
        result = inspection.verify(_settings().root, numerics, checkpoint, quick, progress)
    _done(result)


@cli.command()
@global_options
def status() -> None:
    """Show what is patched, pristine or drifted; write nothing."""
    from toto_patcher import inspection

    _done(inspection.status(_settings().root))


@cli.command()
@global_options
def revert() -> None:
    """Put back every byte; refuse to overwrite edits made since."""
    from toto_patcher import commands

    _done(commands.revert(_settings().root))


@cli.command()
@global_options
def recover() -> None:
    """Finish or undo what an interrupted run left."""
    from toto_patcher import commands

    _done(commands.recover(_settings().root))


# Inside a git hook these name the repository of the caller; what is asked here is always the checkout's own.
_GIT_POINTERS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")


def main() -> None:
    """The console script."""
    gc.disable()  # the process is short-lived, and collecting would take a tenth of its time
    from toto_patcher.terminal import hold_standard_streams, tolerate_any_character

    hold_standard_streams()
    for name in _GIT_POINTERS:
        os.environ.pop(name, None)
    tolerate_any_character(sys.stdout, sys.stderr)
    cli(prog_name="toto-patch")
