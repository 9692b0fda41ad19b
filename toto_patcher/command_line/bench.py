"""``toto-patch bench``: its options, and the call."""

from __future__ import annotations

from typing import Any

import click

from toto_patcher import choices, invocation
from toto_patcher.invocation import F, document_options, with_options

WORKLOADS = (
    "trading",
    "observability",
    "long-horizon",
    "mean-new-forecaster",
    "mean-weight-changed",
    "mean-after-nan",
    "mean-autocast",
    "smoke",
)
MODES = ("eager", "default", "reduce-overhead", "max-autotune")


def _options(command: F) -> F:
    """Adds the options of ``bench``."""
    many: dict[str, Any] = {"multiple": True}
    options = (
        click.option(
            "--workload",
            type=click.Choice(WORKLOADS),
            cls=choices.NamedOption,
            metavar="W",
            help="Repeatable.  [default: all but smoke; on a GPU no mean-*]",
            **many,
        ),
        click.option(
            "--profile",
            metavar="P",
            help="A candidate; repeatable.  [default: the one applied, else full-graph]",
            **choices.PROFILE,
            **many,
        ),
        click.option(
            "--patch",
            metavar="ID",
            help="Patches that are one more candidate together; repeatable.",
            **choices.PATCH,
            **many,
        ),
        click.option(
            "--tree", metavar="NAME=DIR", help="A ready tree in place of those made from the root; repeatable.", **many
        ),
        click.option("--ablation", is_flag=True, help="Also each patch alone, and one after the other."),
        click.option(
            "--baseline",
            type=click.Choice(MODES),
            help="How upstream runs; repeatable.  [default: eager, default and, on a GPU, reduce-overhead]",
            **many,
        ),
        click.option(
            "--mode", type=click.Choice((*MODES, "toto.compile")), help="How candidates run; repeatable.", **many
        ),
        click.option(
            "--precision",
            type=click.Choice(("fp32", "tf32", "bf16")),
            help="[default: tf32 on a GPU, fp32 on a CPU]",
        ),
        click.option("--device", type=click.Choice(("cuda", "cpu")), default="cuda", show_default=True),
        click.option("--shape", type=click.Choice(("base", "tiny")), default="base", show_default=True),
        click.option("--turns", type=click.IntRange(2), default=5, show_default=True, help="Rounds over the rows."),
        click.option(
            "--timed", type=click.IntRange(1), default=3, show_default=True, help="Timed forecasts in a turn of a row."
        ),
        click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Of torch, in each row."),
        click.option(
            "--compile-threads", type=click.IntRange(1), default=4, show_default=True, help="Of Inductor, in each row."
        ),
        click.option(
            "--budget", type=float, metavar="SECONDS", help="Fewer repetitions of slower rows.  [default: 60 on a CPU]"
        ),
        click.option("--time-limit", type=float, metavar="SECONDS", help="Start no further group of rows after this."),
        click.option(
            "--warm-start",
            type=click.Choice(("candidates", "all", "none")),
            default="candidates",
            show_default=True,
            help="Which compiled rows are started again in a second process.",
        ),
        click.option("--kernels/--no-kernels", default=True, help="Count and time what runs on the device."),
    )
    return with_options(command, options)


@click.command()
@_options
@document_options
def bench(**asked: Any) -> None:
    """Measure candidates against upstream: one run, interleaved, each tree in its own process (needs torch).

    The trees are made in temporary folders from the root's original sources; nothing is written under the root.
    """
    from toto_patcher import benchmarking

    with invocation.progress(lines=True) as progress:
        result = benchmarking.bench(invocation.settings().root, benchmarking.Request(**asked), progress)
    invocation.done(result)
