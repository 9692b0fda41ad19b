"""Cross-checks the outputs of one worker with those of another. The ladder is the proof; this is a second look."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toto_patcher.evidence.benchmark_worker import Worker

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
SEED = 7
FEW = (16, 16)
"""Samples, and per batch, where the workload is a mean forecast."""


def collect(worker: Worker, draws: int) -> dict[str, Any]:
    """A point forecast, and samples drawn from ``draws`` seeds.

    A forecaster that calls the model makes the point forecast for as many copies of the series as a batch has samples,
    so that it runs the shapes that are compiled already.
    """
    torch, work, inputs = worker.torch, worker.workload, worker.inputs
    if not worker.setup.decodes:
        copies = {
            name: value.expand(work.per_batch, *value.shape).contiguous()
            for name, value in inputs._asdict().items()
            if isinstance(value, torch.Tensor)
        }
        # A single series is collated to a batch, which makes a tensor of this count; compiled code is guarded on that.
        copies["num_exogenous_variables"] = torch.zeros(1, dtype=torch.long)
        inputs = inputs._replace(**copies)
    with worker.manner():
        point = worker.forecaster.forecast(inputs, prediction_length=work.horizon).mean[:1]
    samples = []
    for seed in range(SEED, SEED + draws):
        torch.manual_seed(seed)
        samples.append(worker.forecast(samples=None if work.samples else FEW).samples.float().cpu())
    return {"point": point.float().cpu(), "samples": samples}


def compare(reference: dict[str, Any], mine: dict[str, Any], *, decodes: bool) -> dict[str, Any]:
    """Largest differences from the reference, as a share of its samples' standard deviation.

    Samples of the same seed are compared where the reference's random numbers are drawn; those of a decoder, which
    draws others, by their quantiles (``quantile_distance``), beside what two draws of the reference differ by.
    """
    samples, drawn = reference["samples"][0], mine["samples"][0]
    scale = float(samples.std())
    found = {
        "point": float((mine["point"] - reference["point"]).abs().max()) / scale,
        "median_samples": float((drawn.median(-1).values - samples.median(-1).values).abs().max() / scale),
    }
    if decodes:
        null = [quantile_distance(a, b) for a, b in combinations(reference["samples"], 2)]
        return {**found, "quantiles": quantile_distance(samples, drawn), "quantiles_null": null}
    difference = (drawn - samples).abs() / scale
    return {
        **found,
        "samples": float(difference.max()),
        "samples_close": float((difference <= 1e-3).double().mean()),
    }


def quantile_distance(reference: Any, other: Any) -> float:
    """How far five quantiles are apart, in interquartile ranges of the reference; the mean over points and levels."""
    levels = reference.new_tensor(QUANTILES)
    mine, theirs = (values.double().quantile(levels.double(), dim=-1) for values in (reference, other))
    spread = (mine[3] - mine[1]).clamp_min(1e-12)
    return float(((mine - theirs).abs() / spread).mean())
