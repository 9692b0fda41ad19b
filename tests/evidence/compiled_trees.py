"""A child process: real Toto trees compiled with ``backend="eager"``. Arguments: ``forecast=DIR``, ``steps=DIR``.

``forecast`` forecasts over growing horizons; ``steps`` compiles a loop body that writes into the tree's own cache.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from tests.variations.worker import Tree

PATCHES = (2, 3)
"""The horizons, in patches: the prompt, a decoding step, and another cache that is one step longer."""
LIMIT = 4


def forecast(tree: Tree) -> None:
    """As its users compile it."""
    model = tree.model(num_layers=2, spacewise_every_n_layers=2).model
    make = tree.module("inference.forecaster").TotoForecaster
    if hasattr(make, "compile"):
        forecaster = make(model).compile(mode=None, backend="eager")
    else:
        forecaster = make(torch.compile(model, backend="eager"))
    series = tree.series(64, 1)
    for patches in PATCHES:
        forecaster.forecast(series, 16 * patches, num_samples=2, samples_per_batch=2)


def steps(tree: Tree) -> None:
    """More decoding steps than a limit allows specialisations."""
    model = tree.model(num_layers=2, spacewise_every_n_layers=2).model
    cache = model.allocate_kv_cache(1, 1, 16 * (LIMIT + 4), torch.device("cpu"), torch.float32)

    def step(cache: Any, entry: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        cache.append(0, entry)
        return cache[0][0].sum()

    compiled = torch.compile(step, backend="eager", dynamic=False)
    entry = torch.ones(1, 4, 1, 16)  # (batch x variates, heads, one step, head's width)
    limit, torch._dynamo.config.recompile_limit = torch._dynamo.config.recompile_limit, LIMIT
    for _ in range(LIMIT + 2):
        compiled(cache, (entry, entry))
    torch._dynamo.config.recompile_limit = limit


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        what, _, folder = argument.partition("=")
        with Tree(str(Path(folder).resolve()), "toto", ".") as opened:
            {"forecast": forecast, "steps": steps}[what](opened)
