"""Names that the command line takes and that files declare: in help, and for the shell to complete.

They are read when help or a shell asks. A command that runs reads them where it uses them, and refuses a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    Text = click.ParamType[str]
else:
    Text = click.ParamType  # older releases of click have no parameter for it


class Names(Text):
    """A text that should be one of some names.

    Args:
        name: what they are names of.
        known: gives them; called when help or a shell asks.
    """

    def __init__(self, name: str, known: Callable[[], Iterable[str]]) -> None:
        self.name = name
        self.known = known

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin with what was typed."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in self.known() if name.startswith(incomplete)]


class NamedOption(click.Option):
    """An option whose help ends with the names that it takes, where they are too many for its own line."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """As every option has it, with the names."""
        record = super().get_help_record(ctx)
        names = self.type.choices if isinstance(self.type, click.Choice) else ()
        if isinstance(self.type, Names):
            names = tuple(self.type.known())
        return record if record is None or not names else (record[0], f"{record[1]}  [one of: {', '.join(names)}]")


class SentencesGroup(click.Group):
    """A group whose help gives the first sentence of each command's in full, wrapped to the terminal."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(limit=1_000)) for name, command in found if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _profiles() -> list[str]:
    from toto_patcher.patching.declarations import declared_profiles

    return sorted(declared_profiles())


def _patches() -> list[str]:
    from toto_patcher.patching.declarations import declared_profiles

    return sorted(set().union(*declared_profiles().values()))


def _releases() -> list[str]:
    from toto_patcher.patching.vendoring.releases import pinned_releases

    return list(pinned_releases())


PROFILE: Any = {"type": Names("profile", _profiles), "cls": NamedOption}
PATCH: Any = {"type": Names("patch", _patches), "cls": NamedOption}
RELEASE: Any = {"type": Names("release", _releases), "cls": NamedOption}
"""Type and class of an option, for ``click.option``."""
