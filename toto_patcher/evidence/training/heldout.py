"""How well a model forecasts real series, none of which it was trained on, beside forecasts that anybody can make.

The two others: ``naive`` repeats the last value, ``seasonal`` the last season. Their samples, for CRPS, are that
forecast plus the errors that it made at the same distance in the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toto_patcher.evidence import metrics
from toto_patcher.evidence.series import Series
from toto_patcher.evidence.training.components import Rows

HORIZONS = {"taylor": 96, "co2": 52, "elnino": 24, "sunspots": 22, "nile": 10, "msft": 20, "goog": 20, "eurusd": 24}
"""Steps ahead: two days, a year, two years, two cycles, ten years, a month of trading, a day."""
ORIGINS, SAMPLES = 8, 128
CONTEXT, SHORTEST_CONTEXT = 512, 40


@dataclass(frozen=True)
class Score:
    """Means over the origins of one series.

    Attributes:
        mase: of the model's median, as a multiple of the seasonal naive error in the history; below 1 is better.
        crps: divided by the same error.
        covered: share of the values that came inside the band from the 10 to the 90 % quantile; 0.8 is right.
    """

    series: str
    horizon: int
    origins: int
    context: int
    mase: float
    mase_naive: float
    mase_seasonal: float
    crps: float
    crps_naive: float
    crps_seasonal: float
    covered: float


def score(model: Any, tree: Any, series: Series, *, seed: int = 0) -> Score:
    """Forecasts the end of one series from several origins and judges the forecasts.

    Args:
        model: a ``Toto`` in evaluation mode.
        tree: what ``equivalence.tree.load`` returned, for its forecaster.
    """
    horizon = HORIZONS.get(series.name, 32)
    origins = min(ORIGINS, (len(series.values) - SHORTEST_CONTEXT) // horizon)
    starts = [len(series.values) - horizon * (origins - number) for number in range(origins)]
    context = min(CONTEXT, starts[0])
    known = np.stack([series.values[start - context : start] for start in starts])
    drawn = forecast(model, tree, known, horizon, series.interval_seconds, seed=seed)
    rows = [_one(series, start, horizon, samples) for start, samples in zip(starts, drawn, strict=True)]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return Score(series.name, horizon, origins, context, **means)


def forecast(
    model: Any, tree: Any, contexts: npt.NDArray[np.float32], horizon: int, interval: int, *, seed: int
) -> npt.NDArray[np.float32]:
    """Samples of shape (windows, SAMPLES, horizon) after contexts of shape (windows, length)."""
    import torch

    known = torch.from_numpy(contexts)[:, None]
    inputs = tree.series(
        series=known,
        padding_mask=torch.ones_like(known, dtype=torch.bool),
        id_mask=torch.zeros_like(known, dtype=torch.int),
        timestamp_seconds=(torch.arange(known.shape[-1]) * interval).expand(known.shape),
        time_interval_seconds=torch.full(known.shape[:2], interval, dtype=torch.int),
    )
    torch.manual_seed(seed)
    made = tree.forecaster(model.model).forecast(inputs, horizon, num_samples=SAMPLES, samples_per_batch=SAMPLES)
    return np.asarray(made.samples[:, 0].transpose(1, 2).numpy())


def _one(series: Series, start: int, horizon: int, samples: npt.NDArray[np.float32]) -> dict[str, float]:
    history, actual = series.values[:start], series.values[start : start + horizon]
    unit = metrics.naive_error(history, series.season)
    found = {
        "mase": metrics.mase(actual, samples, history, series.season),
        "crps": metrics.crps(actual, samples) / unit,
    }
    for name, season in (("naive", 1), ("seasonal", series.season)):
        point, guesses = baseline(history, season, horizon)
        found[f"mase_{name}"] = float(np.abs(point - actual).mean()) / unit
        found[f"crps_{name}"] = metrics.crps(actual, guesses) / unit
    low, high = np.quantile(samples, [0.1, 0.9], axis=0)
    return {**found, "covered": float(((actual >= low) & (actual <= high)).mean())}


def baseline(history: npt.NDArray[np.float32], season: int, horizon: int) -> tuple[Rows, Rows]:
    """The last season again and again, shape (horizon,), and samples around it, shape (origins, horizon)."""
    past = history.astype(np.float64)

    def again(end: int) -> Rows:
        return np.asarray(np.resize(past[end - season : end], horizon))

    ends = np.arange(season, len(past) - horizon + 1)[-400:]
    point = again(len(past))
    return point, point + np.stack([past[end : end + horizon] - again(int(end)) for end in ends])


def summary(scores: Sequence[Score]) -> dict[str, float]:
    """Geometric means over the series: of the model's errors as a share of the better of the two naive ones."""
    shares = {
        "mase": [row.mase / min(row.mase_naive, row.mase_seasonal) for row in scores],
        "crps": [row.crps / min(row.crps_naive, row.crps_seasonal) for row in scores],
    }
    return {name: float(np.exp(np.mean(np.log(values)))) for name, values in shares.items()}


def table(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The scores as JSON takes them."""
    return [asdict(row) for row in scores]
