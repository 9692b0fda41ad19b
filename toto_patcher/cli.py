"""The command line: parses, calls, renders, exits. No logic, and nothing heavy is imported before a command runs."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from toto_patcher import __version__, choices, invocation
from toto_patcher.invocation import ReportingGroup, global_options, selection_options


@click.group(
    cls=ReportingGroup,
    rooms=("accuracy", "bench", "env", "recompilations", "stress"),
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="toto-patch")
@global_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Patch a vendored Toto 1.0 for torch.compile, prove that its outputs did not change, put back every byte."""
    settings = invocation.settings()
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
@click.option("--version", "version", metavar="V", help="A pinned release.  [default: 0.2.0]", **choices.RELEASE)
@click.option("--from-git", metavar="URL", help="Take it from a git repository; needs --rev.")
@click.option("--rev", metavar="R", help="The revision of --from-git.")
@click.option("--from-path", type=click.Path(path_type=Path), metavar="DIR", help="Copy it from a folder.")
@click.option("--force", is_flag=True, help="Replace a package that is patched, edited or the only copy.")
@global_options
def vendor(version: str | None, from_git: str | None, rev: str | None, from_path: Path | None, force: bool) -> None:
    """Put a pinned Toto into vendor/toto and record every file's sha256."""
    from toto_patcher import commands

    if sum(value is not None for value in (version, from_git, from_path)) > 1:
        raise click.UsageError("--version, --from-git and --from-path exclude each other.")
    if (from_git is None) != (rev is None):
        raise click.UsageError("--from-git and --rev go together.")
    with invocation.progress() as progress:
        result = commands.vendor(
            invocation.settings().root,
            version=version,
            from_git=from_git,
            rev=rev,
            from_path=from_path,
            force=force,
            progress=progress,
        )
    invocation.done(result)


@cli.command(name="list")
@click.option("--markdown", is_flag=True, help="Write docs/patches.md to stdout.")
@global_options
def list_(markdown: bool) -> None:
    """List the patches and profiles."""
    from toto_patcher import inspection, report

    if markdown and not invocation.settings().json:
        click.get_current_context().exit(report.write(report.patches_markdown(inspection.catalogue())))
    else:
        invocation.done(inspection.catalogue())


@cli.command()
@click.argument("patch", type=choices.PATCH["type"])
@global_options
def show(patch: str) -> None:
    """Show why a patch exists, what it changes and where. `toto-patch list` names them."""
    from toto_patcher import inspection

    invocation.done(inspection.show(patch, invocation.settings().root))


@cli.command()
@selection_options
@global_options
def diff(profile: str | None, ids: tuple[str, ...]) -> None:
    """Print what apply would write, as a diff that `git apply` accepts.

    Its paths are relative to the tree's root. Below the top of a repository git skips them without a word unless it is
    told where the root is: `git apply --directory=vendor/toto`, with the root's path from the top.
    """
    from toto_patcher import inspection

    invocation.done(inspection.diff(invocation.settings().root, profile, ids))


@cli.command()
@click.option("--backup/--no-backup", default=True, show_default=True, help="Keep the originals in .toto-patch/.")
@selection_options
@click.option("--dry-run", is_flag=True, help="Show what would be written; write nothing.")
@click.option("--check", is_flag=True, help="Exit 1 if anything would be written; write nothing.")
@click.option("--verify", is_flag=True, help="Keep the patches only if the outputs are proved unchanged (needs torch).")
@click.option("--quick", is_flag=True, help="The short ladder.")
@click.option("--commit", is_flag=True, help="Commit exactly the changed files to git.")
@global_options
def apply(
    profile: str | None,
    ids: tuple[str, ...],
    backup: bool,
    dry_run: bool,
    check: bool,
    verify: bool,
    quick: bool,
    commit: bool,
) -> None:
    """Patch the tree, all or nothing. Another profile replaces the one in force."""
    if quick and not verify:
        raise click.UsageError("--quick belongs to --verify.")
    if (dry_run or check) and commit:
        raise click.UsageError("--commit writes; --dry-run and --check do not.")
    from toto_patcher import commands

    with invocation.progress() as progress:
        result = commands.apply(
            invocation.settings().root,
            profile=profile,
            ids=ids,
            backup=backup,
            dry_run=dry_run,
            check=check,
            verify=verify,
            quick=quick,
            commit=commit,
            progress=progress,
        )
    invocation.done(result)


@cli.command(name="verify-only")
@click.option("--numerics", is_flag=True, help="Also prove that the outputs did not change (needs torch).")
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="DIR", help="Prove it on this checkpoint.")
@click.option("--quick", is_flag=True, help="The short ladder.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where it runs.  [default: cpu]")
@global_options
def verify_only(numerics: bool, checkpoint: Path | None, quick: bool, device: str | None) -> None:
    """Check that the tree is patched and whole; write nothing."""
    if (checkpoint or quick or device) and not numerics:
        raise click.UsageError("--checkpoint, --quick and --device belong to --numerics.")
    from toto_patcher import inspection

    proof = inspection.Proof(quick, checkpoint, device or "cpu") if numerics else None
    with invocation.progress() as progress:
        result = inspection.verify(invocation.settings().root, proof, progress)
    invocation.done(result)


@cli.command()
@global_options
def status() -> None:
    """Show what is patched, pristine or drifted; write nothing."""
    from toto_patcher import inspection

    invocation.done(inspection.status(invocation.settings().root))


@cli.command()
@global_options
def revert() -> None:
    """Put back every byte; refuse to overwrite edits made since."""
    from toto_patcher import commands

    invocation.done(commands.revert(invocation.settings().root))


@cli.command()
@global_options
def adopt() -> None:
    """Make the record of a patched tree that has none: a clone without .toto-patch, a diff applied with git."""
    from toto_patcher import adoption

    with invocation.progress() as progress:
        result = adoption.adopt(invocation.settings().root, progress)
    invocation.done(result)


@cli.command()
@global_options
def recover() -> None:
    """Finish or undo what an interrupted run left."""
    from toto_patcher import commands

    invocation.done(commands.recover(invocation.settings().root))


# Inside a git hook these name the repository of the caller; what is asked here is always the checkout's own.
_GIT_POINTERS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")


def main() -> None:
    """The console script."""
    gc.disable()  # the process is short-lived, and collecting would take a tenth of its time
    atexit.register(gc.freeze)  # and the interpreter would collect once more at its end
    from toto_patcher.terminal import hold_standard_streams, tolerate_any_character

    hold_standard_streams()
    for name in _GIT_POINTERS:
        os.environ.pop(name, None)
    tolerate_any_character(sys.stdout, sys.stderr)
    cli(prog_name="toto-patch")
