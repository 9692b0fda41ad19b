"""How far forecasts of one window are from what came, as samples and as a point. Knows numpy alone.

A forecast is a set of samples of shape (num_samples, horizon); what came has shape (horizon,). The point forecast is
the one that each measure asks for: the median of the samples for absolute errors (``mae``, ``mape``, ``mase``), their
mean for squared ones (``rmse``). Definitions: MAPE, MASE and RMSE as in Hyndman and Koehler, "Another look at measures
of forecast accuracy", International Journal of Forecasting 22 (2006); CRPS as in Gneiting and Raftery, "Strictly proper
scoring rules, prediction, and estimation", JASA 102 (2007), by the fair estimator of Ferro, "Fair scores for ensemble
forecasts", QJRMS 140 (2014).

Every function raises InputError for shapes that do not fit, for values that are not finite, and where the measure is
not defined. Sums are made in float64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from toto_patcher.errors import InputError

Array = npt.NDArray[np.float64]


def mae(actual: npt.ArrayLike, samples: npt.ArrayLike) -> float:
    """Mean absolute error of the median, in the unit of the series."""
    came, drawn = _checked(actual, samples)
    return float(np.abs(np.median(drawn, axis=0) - came).mean())


def rmse(actual: npt.ArrayLike, samples: npt.ArrayLike) -> float:
    """Root of the mean squared error of the mean, in the unit of the series."""
    came, drawn = _checked(actual, samples)
    return float(np.sqrt(np.square(drawn.mean(axis=0) - came).mean()))


def mape(actual: npt.ArrayLike, samples: npt.ArrayLike) -> float:
    """Mean absolute error of the median, each as a share of what came: 0.05 is five per cent.

    Raises:
        InputError: also where a value that came is zero.
    """
    came, drawn = _checked(actual, samples)
    if not came.all():
        raise InputError("MAPE is not defined where a value is zero")
    return float((np.abs(np.median(drawn, axis=0) - came) / np.abs(came)).mean())


def crps(actual: npt.ArrayLike, samples: npt.ArrayLike) -> float:
    """Continuous ranked probability score, mean over the horizon, in the unit of the series.

    ``E|X - y| - E|X - X'| / 2`` with the second mean over pairs of different samples, which makes the estimate unbiased
    for the distribution that the samples come from: its expectation does not depend on their number. It can be slightly
    negative. From sorted samples, in O(n log n).

    Raises:
        InputError: also with fewer than two samples.
    """
    came, drawn = _checked(actual, samples)
    count = len(drawn)
    if count < 2:
        raise InputError("CRPS needs at least two samples")
    ordered = np.sort(drawn, axis=0)
    # Each sorted value is larger than those before it and smaller than those after: its share of all differences.
    weights = 2 * np.arange(count) - (count - 1)
    pairs = (weights[:, None] * ordered).sum(axis=0) / (count * (count - 1))
    return float((np.abs(drawn - came).mean(axis=0) - pairs).mean())


def mase(actual: npt.ArrayLike, samples: npt.ArrayLike, history: npt.ArrayLike, season: int) -> float:
    """Mean absolute error of the median, as a multiple of the seasonal naive forecast's error within the history.

    Args:
        history: all that was known when the forecast was made, shape (length,); not only the context.
        season: how many steps the naive forecast looks back; 1 is the last value.

    Raises:
        InputError: also where the history is no longer than a season, or its naive forecast never fails.
    """
    return mae(actual, samples) / naive_error(history, season)


def naive_error(history: npt.ArrayLike, season: int) -> float:
    """Mean absolute error of the seasonal naive forecast, one step after the other through the history.

    Raises:
        InputError: as for ``mase``.
    """
    past = np.asarray(history, dtype=np.float64)
    if past.ndim != 1 or season < 1:
        raise InputError(f"a history of shape {past.shape} and a season of {season} give no naive forecast")
    if len(past) <= season:
        raise InputError(f"a history of {len(past)} values has no naive forecast with a season of {season}")
    if not np.isfinite(past).all():
        raise InputError("the history has values that are not finite")
    error = float(np.abs(past[season:] - past[:-season]).mean())
    if error == 0.0:
        raise InputError(f"MASE is not defined: the history repeats itself exactly after {season} steps")
    return error


def _checked(actual: npt.ArrayLike, samples: npt.ArrayLike) -> tuple[Array, Array]:
    came, drawn = np.asarray(actual, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    if came.ndim != 1 or drawn.ndim != 2 or drawn.shape[1:] != came.shape or 0 in drawn.shape:
        raise InputError(
            f"samples of shape {drawn.shape} and values of shape {came.shape}: expected (num_samples, horizon) and "
            "(horizon,)"
        )
    for name, values in (("samples", drawn), ("values that came", came)):
        if not np.isfinite(values).all():
            raise InputError(f"the {name} are not all finite: {np.count_nonzero(~np.isfinite(values))} are not")
    return came, drawn
