"""``toto-patch stress``: its options, and the call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toto_patcher import invocation
from toto_patcher.invocation import global_options

MODES = ("quick", "full", "production-check")
COMPILE_MODES = ("eager", "default", "reduce-overhead", "max-autotune")


@click.command()
@click.option(
    "--mode", type=click.Choice(MODES), default="quick", show_default=True, help="3, 10 or 20 iterations over all rows."
)
@click.option(
    "--compile-mode",
    type=click.Choice(COMPILE_MODES),
    multiple=True,
    help="How the patched tree runs; repeatable.  [default: eager, default and, on a GPU, reduce-overhead]",
)
@click.option("--backend", metavar="B", default="inductor", show_default=True, help="Of torch.compile.")
@click.option("--device", type=click.Choice(("cpu", "cuda")), default=None, help="[default: cuda where there is one]")
@click.option(
    "--checkpoint",
    metavar="DIR",
    default="embedded",
    show_default=True,
    help="A folder with config.json and model.safetensors.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default=Path("compile_stress"),
    show_default=True,
    help="The folder for the report, the raw document and the plots.",
)
@global_options
def stress(**asked: Any) -> None:
    """Is the tree as it is accurate, fast and stable enough to deploy, against its original? (needs torch)

    Both run in processes of their own, the original eagerly; nothing is written under the root. Exit status 5: a limit
    is broken. The limits are those of [tool.toto-patch.stress] in the nearest pyproject.toml.
    """
    from toto_patcher.evidence import stress as test

    asked["device"] = asked["device"] or ""
    with invocation.progress(lines=True) as progress:
        result = test.stress(invocation.settings().root, test.Request(**asked), progress)
    invocation.done(result)
