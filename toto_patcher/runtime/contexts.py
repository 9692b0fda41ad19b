"""What callers may pass as context, brought to one form: one ``Context`` for each series.

Nothing is padded here, and series of different lengths stay apart: values that are filled in at the left would change
the forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toto_patcher.errors import InputError

Array = npt.NDArray[np.float64]
LARGEST = float(np.finfo(np.float32).max) / 2
"""From here on the model takes values for missing ones; bfloat16 has the same range."""
DEFAULT_INTERVAL_SECONDS = 60


@dataclass(frozen=True)
class Context:
    """One series to forecast.

    Attributes:
        values: (variates, steps); known covariates are the last variates.
        future: known values of the covariates, (covariates, horizon), or ``None``.
        single: it was given as one row of numbers, so its forecast has no dimension for variates.
        seconds: POSIX seconds of each step, (steps,).
        interval: seconds between two steps.
    """

    values: Array
    future: Array | None
    single: bool
    seconds: npt.NDArray[np.int64]
    interval: int

    @property
    def covariates(self) -> int:
        """How many of the variates are known covariates."""
        return 0 if self.future is None else len(self.future)

    @property
    def key(self) -> tuple[int, ...]:
        """Series with the same key can be forecast together."""
        return (*self.values.shape, self.covariates)


def read(
    context: Any,
    prediction_length: int,
    *,
    variates: bool = False,
    past_covariates: Any = None,
    future_covariates: Any = None,
    interval_seconds: int | None = None,
) -> list[Context]:
    """Reads one series or many.

    Args:
        context: numbers (one series), a 2-D array (each row a series), a list of series of any lengths, a pandas Series
            or DataFrame (each column a series). With ``variates``: a 2-D array (variates, steps), a DataFrame (each
            column a variate), a 3-D array or a list of those.
        prediction_length: the horizon, which known covariates must cover.
        variates: the second to last dimension holds the variates of one series.
        past_covariates: values of known covariates over the context, (covariates, steps); of many series, a list.
        future_covariates: their values over the horizon, (covariates, prediction_length); of many series, a list.
        interval_seconds: time between two steps; by default that of a pandas index of dates, else a minute.

    Raises:
        InputError: what cannot be forecast, and of which series.
    """
    items = _items(context, variates)
    if not items:
        raise InputError("the context holds no series")
    past, future = _per_series(past_covariates, len(items)), _per_series(future_covariates, len(items))
    read_items = enumerate(zip(items, past, future, strict=True))
    return [_read_one(index, *item, variates, prediction_length, interval_seconds) for index, item in read_items]


def _read_one(
    index: int, item: Any, past: Any, future: Any, variates: bool, horizon: int, interval: int | None
) -> Context:
    where = f"series {index}"
    values = _numbers(item, where)
    if values.ndim != (2 if variates else 1):
        wanted = "2-D, (variates, steps)" if variates else "1-D; pass variates=True for a multivariate series"
        raise InputError(f"{where}: shape {values.shape}, expected {wanted}")
    if 0 in values.shape:
        raise InputError(f"{where}: is empty, shape {values.shape}")
    _require_finite(values, where)
    values = np.atleast_2d(values)
    steps = values.shape[1]
    known = None
    if (past is None) != (future is None):
        given, missing = ("past", "future") if future is None else ("future", "past")
        raise InputError(f"{where}: {given}_covariates are given without {missing}_covariates; both are needed")
    if past is not None:
        before = _covariates(past, steps, f"{where}: past_covariates")
        known = _covariates(future, horizon, f"{where}: future_covariates")
        if isinstance(past, Mapping) and isinstance(future, Mapping):
            if past.keys() != future.keys():
                raise InputError(f"{where}: covariates {sorted(past)} in the past, {sorted(future)} in the future")
            known = _covariates({name: future[name] for name in past}, horizon, f"{where}: future_covariates")
        if len(before) != len(known):
            raise InputError(f"{where}: {len(before)} covariates in the past, {len(known)} in the future")
        values = np.concatenate([values, before])
    seconds, step = _times(item, steps, interval, where)
    return Context(values, known, not variates, seconds, step)


def _items(context: Any, variates: bool) -> list[Any]:
    """The series, still as they were given."""
    if context is None or isinstance(context, (str, bytes, Mapping)):
        raise InputError(f"the context is {type(context).__name__}, not numbers")
    if _is_pandas(context):
        if getattr(context, "ndim", 1) == 1 or variates:
            return [context]
        return [context.iloc[:, column] for column in range(context.shape[1])]
    inner = 2 if variates else 1
    if isinstance(context, (list, tuple)):
        depth = _depth(context)
        if depth == inner:
            return [context]
        return list(context)
    dimensions = getattr(context, "ndim", None)
    if dimensions is None:
        try:
            return _items(list(context), variates)
        except TypeError:
            raise InputError(f"the context is {type(context).__name__}, not numbers") from None
    if dimensions not in (inner, inner + 1):
        wanted = "(variates, steps) or (series, variates, steps)" if variates else "(steps,) or (series, steps)"
        hint = None if variates else "For a multivariate series pass variates=True."
        raise InputError(f"the context has shape {tuple(context.shape)}, expected {wanted}", hint=hint)
    return [context] if dimensions == inner else list(context)


def _depth(value: Any) -> int:
    """Dimensions of nested lists, by their first elements; an empty list counts as a row of numbers."""
    if hasattr(value, "ndim"):
        return int(value.ndim)
    if not isinstance(value, (list, tuple)):
        return 0
    return 1 + (_depth(value[0]) if value else 0)


def _per_series(given: Any, count: int) -> list[Any]:
    if given is None:
        return [None] * count
    items: list[Any]
    if isinstance(given, Mapping):
        items = [given]
    elif isinstance(given, (list, tuple)):
        alone = count == 1 and (_depth(given) < 2 or (_depth(given) == 2 and not hasattr(given[0], "ndim")))
        items = [given] if alone else list(given)
    else:
        items = list(given) if getattr(given, "ndim", 0) == 3 else [given]
    if len(items) != count:
        raise InputError(f"covariates of {len(items)} series are given for {count} series")
    return items


def _covariates(given: Any, steps: int, where: str) -> Array:
    if isinstance(given, Mapping):
        rows = {name: _numbers(values, f"{where}[{name!r}]") for name, values in given.items()}
        lengths = {name: row.shape for name, row in rows.items() if row.shape != (steps,)}
        if lengths or not rows:
            raise InputError(f"{where}: {lengths or 'none'}; expected {steps} values of each")
        values = np.stack(list(rows.values()))
    else:
        values = np.atleast_2d(_numbers(given, where))
    if values.ndim != 2 or values.shape[1] != steps or not len(values):
        raise InputError(f"{where}: shape {values.shape}, expected (covariates, {steps})")
    _require_finite(values, where)
    return values


def _numbers(given: Any, where: str) -> Array:
    """A float64 array with the values, in the shape given; of a DataFrame, the columns are the rows."""
    if hasattr(given, "detach"):  # a tensor, from whatever device, in whatever precision
        given = given.detach().to("cpu")
        given = given.double().numpy() if given.is_floating_point() or not given.is_complex() else given.numpy()
    elif _is_pandas(given):
        given = given.to_numpy() if given.ndim == 1 else given.to_numpy().T
    try:
        array = np.asarray(given)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: is not an array of numbers: {error}") from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"{where}: holds {array.dtype}, not numbers")
    return array.astype(np.float64)


def _require_finite(values: Array, where: str) -> None:
    bad = ~np.isfinite(values) | (np.abs(values) >= LARGEST)
    if bad.any():
        first = np.unravel_index(int(bad.argmax()), bad.shape)
        place = f"step {first[-1]}" + (f" of variate {first[0]}" if len(first) > 1 else "")
        kind = "too large for the model" if np.isfinite(values[first]) else "not finite"
        raise InputError(
            f"{where}: {int(bad.sum())} of {values.size} values are {kind}, the first is {values[first]} at {place}",
            hint="Fill the gaps, or cut the series to a stretch without any.",
        )


def _times(item: Any, steps: int, interval: int | None, where: str) -> tuple[npt.NDArray[np.int64], int]:
    """Seconds of each step and between two: the releases up to 0.2.0 pass them on, and no layer reads them."""
    index = getattr(item, "index", None) if _is_pandas(item) else None
    if index is not None and type(index).__name__ == "DatetimeIndex" and interval is None and steps > 1:
        seconds = index.to_numpy().astype("datetime64[s]").astype(np.int64)
        return seconds, max(1, int(np.median(np.diff(seconds))))
    step = DEFAULT_INTERVAL_SECONDS if interval is None else interval
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or step < 1:
        raise InputError(f"{where}: interval_seconds is {step!r}, expected a positive number of seconds")
    return np.arange(steps, dtype=np.int64) * int(step), int(step)


def _is_pandas(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "to_numpy")
