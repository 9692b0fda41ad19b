"""A forecaster of one tree on one workload: model, compile mode, precision and seeded series. Needs torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from toto_patcher.equivalence.models import Shape, weight
from toto_patcher.evidence.workloads import README_COMPILE, Workload

MATMUL_PRECISION = {"fp32": "highest", "tf32": "high", "bf16": "high"}
"""Precision of a run -> torch's setting for products of float32 matrices."""


@dataclass(frozen=True)
class Setup:
    """What a worker measures.

    Attributes:
        forecaster: upstream's class as the tree defines it, compiled if a mode was asked for.
        model: its backbone.
        renewed: makes another forecaster like it, of the same model.
        series: the class of its inputs.
        decodes: the forecaster decodes by itself and never calls the model; then it has a ``compile`` of its own.
        parameters: how many the model has.
        weights_mib: memory that they take.
    """

    forecaster: Any
    model: Any
    renewed: Callable[[], Any]
    series: Any
    decodes: bool
    parameters: int
    weights_mib: float


def build(tree: Path, shape: Shape, mode: str | None, device: Any, precision: str, seed: int) -> Setup:
    """Imports a tree and makes its forecaster with seeded weights.

    Args:
        mode: of torch.compile; ``None`` for none, ``README_COMPILE`` for the call that upstream's README shows.

    Raises:
        RuntimeError: another package named ``toto`` was imported.
    """
    sys.path.insert(0, str(tree))
    import torch

    backbone = import_module("toto.model.backbone")
    if tree not in Path(backbone.__file__ or "").resolve().parents:
        raise RuntimeError("another package named toto shadows the tree under test")
    wrapper = None
    if mode == README_COMPILE:
        wrapper = import_module("toto.model.toto").Toto(**shape.config(), use_memory_efficient_attention=False)
        model = wrapper.model
    else:
        model = backbone.TotoBackbone(**shape.config(), use_memory_efficient_attention=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weight(name, parameter.shape, seed)))
    (model if wrapper is None else wrapper).eval().to(device, dtype=dtype(precision))
    weights = [(parameter.numel(), parameter.element_size()) for parameter in model.parameters()]
    forecaster_class = import_module("toto.inference.forecaster").TotoForecaster
    decodes = hasattr(forecaster_class, "compile")
    if wrapper is not None:
        wrapper.compile(mode="reduce-overhead")
    elif mode is not None and not decodes:
        model = torch.compile(model, mode=mode)
    backbone_model, called = getattr(model, "_orig_mod", model), model

    def renewed() -> Any:
        forecaster = forecaster_class(called)
        if mode is not None and decodes and wrapper is None:
            forecaster.compile(mode=mode)
        return forecaster

    return Setup(
        renewed(),
        backbone_model,
        renewed,
        import_module("toto.data.util.dataset").MaskedTimeseries,
        decodes,
        sum(count for count, _ in weights),
        sum(count * size for count, size in weights) / 2**20,
    )


def dtype(precision: str) -> Any:
    """The dtype of weights and series."""
    import torch

    return torch.bfloat16 if precision == "bf16" else torch.float32


def series(setup: Setup, work: Workload, device: Any, precision: str, seed: int = 1) -> Any:
    """A seeded random walk with a daily season, the same in every process."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(work.variates, work.context, generator=generator).cumsum(-1)
    season = torch.sin(torch.arange(work.context) * (2 * torch.pi / 96))
    stamps = torch.arange(work.context).expand(work.variates, -1) * 60
    inputs = setup.series(
        series=(steps * 0.3 + 3 * season + 20).to(dtype(precision)),
        padding_mask=torch.ones(work.variates, work.context).bool(),
        id_mask=torch.zeros(work.variates, work.context, dtype=torch.int),
        timestamp_seconds=stamps.contiguous(),
        time_interval_seconds=torch.full((work.variates,), 60, dtype=torch.int),
    )
    return inputs.to(device)
