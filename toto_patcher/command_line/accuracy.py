"""``toto-patch accuracy``: its options, and the call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toto_patcher import invocation
from toto_patcher.invocation import F, document_options, with_options

SERIES = ("taylor", "msft", "eurusd", "goog", "co2", "elnino", "sunspots", "nile")
MODES = ("eager", "default", "reduce-overhead", "max-autotune")


def _options(command: F) -> F:
    """Adds the options of ``accuracy``."""
    options = (
        click.option(
            "--series",
            type=click.Choice(SERIES),
            multiple=True,
            help="Repeatable.  [default: all that are installed and long enough; with --quick taylor, msft, co2]",
        ),
        click.option(
            "--csv", type=click.Path(path_type=Path), metavar="FILE", help="A CSV file in place of these series."
        ),
        click.option("--column", metavar="NAME", default="close", show_default=True, help="The column of --csv."),
        click.option(
            "--season",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Steps after which the --csv repeats, for MASE; 1 for prices.",
        ),
        click.option(
            "--checkpoint",
            metavar="DIR",
            default="embedded",
            show_default=True,
            help="A folder with config.json and model.safetensors.",
        ),
        click.option("--horizon", type=click.IntRange(1), metavar="N", help="Steps ahead.  [default: 96; quick: 48]"),
        click.option(
            "--context", type=click.IntRange(16), metavar="N", help="Steps known.  [default: 512; quick: 256]"
        ),
        click.option(
            "--samples", type=click.IntRange(2), metavar="N", help="Of each window under each seed.  [default: 64]"
        ),
        click.option("--origins", type=click.IntRange(1), metavar="N", help="Windows of a series.  [default: 4]"),
        click.option("--seeds", type=click.IntRange(3), metavar="K", help="[default: 8]"),
        click.option(
            "--compile-mode",
            type=click.Choice(MODES),
            help="Of the patched tree; upstream runs eagerly.  [default: default, on a GPU reduce-overhead; eager "
            "for the profile eager and with --quick on a CPU]",
        ),
        click.option("--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True),
        click.option("--quick", is_flag=True, help="Three series, shorter contexts and horizons."),
    )
    return with_options(command, options)


@click.command()
@_options
@document_options
def accuracy(**asked: Any) -> None:
    """Is the patched tree as accurate on real series as upstream is with itself? (needs torch)

    Both forecast the same windows under several seeds, each in its own process; nothing is written under the root.
    Exit status 5: a measure is further from upstream's than upstream's own seeds are from each other.
    """
    if asked["csv"] is not None and asked["series"]:
        raise click.UsageError("--csv and --series exclude each other")
    from toto_patcher.evidence import accuracy as comparison

    with invocation.progress() as progress:
        result = comparison.accuracy(invocation.settings().root, comparison.Request(**asked), progress)
    invocation.done(result)
