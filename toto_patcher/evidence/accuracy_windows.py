"""The forecasts that accuracy is judged on: origins that roll through the end of each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toto_patcher.errors import InputError
from toto_patcher.evidence import metrics
from toto_patcher.evidence.series import Series

MEASURES = ("mae", "rmse", "mape", "crps", "mase")
SHORTEST_CONTEXT = 64


@dataclass(frozen=True)
class Window:
    """One origin of one series.

    Attributes:
        context: what the model is given, shape (context,).
        actual: what came, shape (horizon,).
        history: all that was known, for MASE; it ends with the context.
    """

    series: Series
    origin: int
    context: npt.NDArray[np.float32]
    actual: npt.NDArray[np.float32]
    history: npt.NDArray[np.float32]


def cut(series: Series, horizon: int, context: int, origins: int) -> list[Window]:
    """The windows of a series, earliest first: horizons that do not overlap and end with the series.

    A series that is too short for the whole context is given a shorter one, the same for all its windows.

    Raises:
        InputError: less than ``SHORTEST_CONTEXT`` values are left for it, or measures have no meaning.
    """
    first = len(series.values) - horizon * origins
    length = min(context, first)
    if length < min(context, SHORTEST_CONTEXT):
        raise InputError(
            f"{series.name} has {len(series.values)} values: too short for {origins} origins {horizon} steps apart "
            f"after a context of {min(context, SHORTEST_CONTEXT)}",
            hint="Ask for fewer --origins, or a shorter --horizon or --context.",
        )
    starts = [first + horizon * number for number in range(origins)]
    metrics.naive_error(series.values[: starts[0]], series.season)
    return [
        Window(
            series,
            start,
            series.values[start - length : start],
            series.values[start : start + horizon],
            series.values[:start],
        )
        for start in starts
    ]


def errors(
    windows: Sequence[Window], samples: Sequence[npt.NDArray[np.float32]]
) -> Mapping[str, npt.NDArray[np.float64]]:
    """Measure -> errors of shape (windows, seeds).

    MAPE is NaN throughout a series that has a zero in one of its windows.

    Args:
        samples: of each window, shape (seeds, num_samples, horizon).
    """
    seeds = len(samples[0])
    found = {measure: np.full((len(windows), seeds), np.nan) for measure in MEASURES}
    zeros = {window.series.name for window in windows if not window.actual.all()}
    for row, (window, drawn) in enumerate(zip(windows, samples, strict=True)):
        naive = metrics.naive_error(window.history, window.series.season)
        for seed in range(seeds):
            found["mae"][row, seed] = mae = metrics.mae(window.actual, drawn[seed])
            found["rmse"][row, seed] = metrics.rmse(window.actual, drawn[seed])
            found["crps"][row, seed] = metrics.crps(window.actual, drawn[seed])
            found["mase"][row, seed] = mae / naive
            if window.series.name not in zeros:
                found["mape"][row, seed] = metrics.mape(window.actual, drawn[seed])
    return found
