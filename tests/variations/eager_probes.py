"""Uses of what the profile eager changes. They run in the child of ``worker.py``."""

from __future__ import annotations

from typing import Any

import torch


def _forecaster(tree: Any, **changes: Any) -> Any:
    return tree.module("inference.forecaster").TotoForecaster(tree.model(**changes).model)


def _calls(tree: Any, horizon: int, prepare: Any = None, **how: Any) -> list[list[int]]:
    """[series, steps, cached patches before] of every call of the model in one forecast."""
    forecaster = _forecaster(tree)
    if prepare is not None:
        prepare(forecaster)
    seen: list[list[int]] = []

    def note(_: Any, __: Any, given: dict[str, Any]) -> None:
        cache = given["kv_cache"]
        seen.append([*given["inputs"].shape[::2], -1 if cache is None else int(cache.current_len(0))])

    forecaster.model.register_forward_pre_hook(note, with_kwargs=True)
    forecaster.forecast(tree.series(64, 2), horizon, **how)
    return seen


def calls(tree: Any) -> dict[str, list[list[int]]]:
    """Which calls of the model a forecast makes."""
    drawn = {"num_samples": 6, "samples_per_batch": 3}
    return {
        "below a patch": _calls(tree, 8, **drawn),
        "three patches": _calls(tree, 40, **drawn),
        "mean": _calls(tree, 20),
        "no cache": _calls(tree, 20, use_kv_cache=False, **drawn),
        "training": _calls(tree, 20, lambda forecaster: forecaster.model.train(), **drawn),
        "another distribution": _calls(tree, 8, _other_distribution, **drawn),
    }


def _other_distribution(forecaster: Any) -> None:
    class Local(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(64, 1)

        def forward(self, hidden: torch.Tensor) -> Any:
            return torch.distributions.Laplace(self.head(hidden).squeeze(-1), 1.0)

    forecaster.model.output_distribution = Local()


def _shapes(model: Any, cached: bool, steps: int = 64) -> list[list[int]]:
    fed = {
        "inputs": torch.randn(2, 3, steps, generator=torch.Generator().manual_seed(0)),
        "input_padding_mask": torch.ones(2, 3, steps, dtype=torch.bool),
        "id_mask": torch.zeros(2, 3, steps),
        "scaling_prefix_length": steps,
    }
    cache = model.allocate_kv_cache(2, 3, steps, torch.device("cpu"), torch.float32) if cached else None
    distribution, loc, scale = model(**fed, kv_cache=cache)
    return [list(distribution.mean.shape), list(loc.shape), list(scale.shape)]


def heads(tree: Any) -> list[Any]:
    """What calls of the model give: with a cache, without one, and with a cache and ``every_patch``."""
    model = tree.model().model
    found = [model.every_patch, _shapes(model, cached=True), _shapes(model, cached=False)]
    model.every_patch = True
    return [*found, model.every_patch, _shapes(model, cached=True)]


def settings(tree: Any) -> list[Any]:
    """The switch on the forecaster and on its model, and a wrong value."""
    forecaster = _forecaster(tree)
    found: list[Any] = [forecaster.sampler]
    forecaster.sampler = "seed-exact"
    found += [forecaster.sampler, forecaster.model.every_patch]
    found += [sorted(name for name in forecaster.model.state_dict() if "every" in name)]
    try:
        forecaster.sampler = "exact"
    except ValueError as error:
        found.append(str(error))
    compiled = tree.module("inference.forecaster").TotoForecaster(torch.compile(forecaster.model, backend="eager"))
    compiled.sampler = "fast"
    return [*found, compiled.sampler, forecaster.sampler]


def student(tree: Any) -> list[float]:
    """Samples where the distribution is a single Student-T, and the layers begin with space."""
    forecaster = _forecaster(
        tree,
        output_distribution_classes=["<class 'model.distribution.StudentTOutput'>"],
        output_distribution_kwargs={},
        spacewise_first=True,
        spacewise_every_n_layers=2,
    )
    if hasattr(type(forecaster), "sampler"):
        forecaster.sampler = "seed-exact"
    torch.manual_seed(3)
    samples = forecaster.forecast(tree.series(50, 3), 40, num_samples=6, samples_per_batch=3).samples
    return list(samples.flatten().tolist())
