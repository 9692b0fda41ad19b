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
    forecaster.model = noting = _Noting(forecaster.model)
    forecaster.forecast(tree.series(64, 2), horizon, **how)
    return noting.seen


class _Noting:
    """In the model's place; not a hook, for with hooks nothing is shared."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.seen: list[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, **given: Any) -> Any:
        cache = given["kv_cache"]
        self.seen.append([*given["inputs"].shape[::2], -1 if cache is None else int(cache.current_len(0))])
        return self._model(**given)


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


def _smaller(_: Any, __: Any, out: Any) -> Any:
    return out * 0.9


def _by_the_mean(_: Any, __: Any, out: Any) -> Any:
    return out - out.mean(-2, keepdim=True)


def others(tree: Any) -> dict[str, Any]:
    """Means where the head is not upstream's own, or patches are not one after the other."""

    def mean(prepare: Any = None, **changes: Any) -> list[float]:
        torch.manual_seed(0)
        forecaster = _forecaster(tree, **changes)
        if prepare is not None:
            prepare(forecaster.model)
        try:
            return forecaster.forecast(tree.series(64, 2), 40).mean.flatten().tolist()
        except (RuntimeError, AssertionError) as error:
            return [type(error).__name__]  # type: ignore[list-item]

    class Around(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return _by_the_mean(self, None, self.inner(hidden))

    return {
        "patches with gaps": mean(patch_size=8, stride=16),
        "patches that overlap": mean(lambda model: setattr(model.patch_embed, "stride", 8)),
        "hook on the head": mean(lambda model: model.unembed.register_forward_hook(_by_the_mean)),
        "hook on the distribution": mean(lambda model: model.output_distribution.df.register_forward_hook(_smaller)),
        "module around the head": mean(lambda model: setattr(model, "unembed", Around(model.unembed))),
    }


def noises(tree: Any) -> dict[str, bool]:
    """Whether the samples of one forecast differ where only noise in the middle of the model tells them apart."""

    def hooked(model: Any) -> None:
        model.transformer.layers[-1].register_forward_hook(lambda _, __, out: out + torch.randn_like(out))

    def method(model: Any) -> None:
        norm = model.transformer.layers[0].norm1
        inner = norm.forward
        norm.forward = lambda x: inner(x) + torch.randn_like(x)

    def subclass(model: Any) -> None:
        norm = model.transformer.layers[0].norm1
        inner = type(norm)
        members = {"forward": lambda self, x: inner.forward(self, x) + torch.randn_like(x)}
        norm.__class__ = type(inner.__name__, (inner,), members | {"__module__": inner.__module__})

    def everywhere(_: Any) -> Any:
        layer = torch.nn.modules.module
        return layer.register_module_forward_hook(
            lambda module, __, out: out + torch.randn_like(out) if type(module).__name__ == "TransformerLayer" else None
        )

    found = {}
    for prepare in (hooked, method, subclass, everywhere):
        torch.manual_seed(0)
        forecaster = _forecaster(tree)
        head = forecaster.model.output_distribution
        with torch.no_grad():
            for part in (head.loc_proj.weight, head.loc_proj.bias):
                part.copy_(part[:1].expand_as(part))  # one component, so narrow that nothing but noise differs
            head.scale_proj.weight.zero_()
            head.scale_proj.bias.fill_(-14.0)
        handle = prepare(forecaster.model)
        samples = forecaster.forecast(tree.series(64, 2), 8, num_samples=4, samples_per_batch=4).samples
        if handle is not None:
            handle.remove()
        found[prepare.__name__] = bool((samples.std(-1).mean() / samples.abs().mean()) > 1e-4)
    return found
