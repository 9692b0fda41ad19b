"""What callers may pass as context, brought to one form: one ``Context`` for each series.

Nothing is padded here, and series of different lengths stay apart: values that are filled in at the left would change
the forecast. Missing values are masked, which the model knows (``gaps``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toto_patcher.errors import InputError
from toto_patcher.runtime import gaps, levels
from toto_patcher.runtime.numbers import Array, is_pandas, library, to_numbers
from toto_patcher.runtime.said import say

LARGEST = float(np.finfo(np.float32).max) / 2
"""From here on the model takes values for missing ones; bfloat16 has the same range."""
DEFAULT_INTERVAL_SECONDS = 60


@dataclass(frozen=True)
class Context:
    """One series to forecast.

    Attributes:
        values: (variates, steps), all finite; known covariates are the last variates.
        known: which of them count; the others stand where values are missing.
        future: known values of the covariates, (covariates, late + horizon), or ``None``.
        single: it was given as one row of numbers, so its forecast has no dimension for variates.
        seconds: POSIX seconds of each step, (steps,).
        interval: seconds between two steps.
        late: steps between the last value and the first step to forecast: their values are missing.
        missing: values that were missing, those of the late steps included.
        level: what is taken off before the model sees it, ``None`` for nothing.
    """

    values: Array
    known: npt.NDArray[np.bool_]
    future: Array | None
    single: bool
    seconds: npt.NDArray[np.int64]
    interval: int
    late: int
    missing: int
    level: levels.Level | None

    @property
    def covariates(self) -> int:
        """How many of the variates are known covariates."""
        return 0 if self.future is None else len(self.future)

    @property
    def key(self) -> tuple[int, ...]:
        """Series with the same key can be forecast together."""
        return (*self.values.shape, self.covariates, self.late)


def read(
    context: Any,
    prediction_length: int,
    *,
    variates: bool = False,
    past_covariates: Any = None,
    future_covariates: Any = None,
    interval_seconds: int | None = None,
    context_length: int | None = None,
    name: str = "series {index}",
) -> list[Context]:
    """Reads one series or many. NaN, ``None``, masked and null values are missing.

    Args:
        context: numbers (one series), a 2-D array (each row a series), a list of series of any lengths, a pandas Series
            or DataFrame (each column a series). With ``variates``: a 2-D array (variates, steps), a DataFrame (each
            column a variate), a 3-D array or a list of those.
        prediction_length: the horizon, which known covariates must cover.
        variates: the second to last dimension holds the variates of one series.
        past_covariates: values of known covariates over the context, (covariates, steps); of many series, a list.
        future_covariates: their values over the horizon, (covariates, prediction_length); of many series, a list.
        interval_seconds: time between two steps; by default that of a pandas index of dates, else a minute.
        context_length: only so many steps at the end of each series are used; ``None``: all.
        name: what errors call a series.

    Raises:
        InputError: what cannot be forecast, and of which series.
    """
    items = _items(context, variates)
    if not items:
        raise InputError("the context holds no series")
    past, future = _per_series(past_covariates, len(items)), _per_series(future_covariates, len(items))
    read_items = enumerate(zip(items, past, future, strict=True))
    return [
        _read_one(name.format(index=index), *item, variates, prediction_length, interval_seconds, context_length)
        for index, item in read_items
    ]


def say_missing(contexts: Sequence[Context], names: Sequence[str]) -> None:
    """Says how many values were missing, and in which series, if any were."""
    found = [(one, name) for one, name in zip(contexts, names, strict=True) if one.missing]
    if not found:
        return
    count = sum(one.missing for one, _ in found)
    where = ", ".join(name for _, name in found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    late = max(one.late for one, _ in found)
    tail = f"; at the end of a series up to {late} steps are missing, and are forecast as well" if late else ""
    say(f"{count} values are missing, in {len(found)} of {len(contexts)} series ({where}): masked{tail}")


def _read_one(
    where: str,
    item: Any,
    past: Any,
    future: Any,
    variates: bool,
    horizon: int,
    interval: int | None,
    length: int | None,
) -> Context:
    item = _oldest_first(item, where)
    values = to_numbers(item, where)
    if values.ndim != (2 if variates else 1):
        wanted = "2-D, (variates, steps)" if variates else "1-D; pass variates=True for a multivariate series"
        raise InputError(f"{where}: shape {values.shape}, expected {wanted}")
    if 0 in values.shape:
        raise InputError(f"{where}: is empty, shape {values.shape}")
    _require_possible(values, where)
    values = np.atleast_2d(values)
    targets, steps = values.shape
    known = None
    if past is None and future is not None:
        raise InputError(f"{where}: future_covariates are given without past_covariates; both are needed")
    if past is not None and future is None:
        raise InputError(
            f"{where}: past_covariates are given without future_covariates: Toto 1.0 takes no covariates that are "
            "known for the past only",
            hint="Give their future too, or forecast them beside the target as variates of one series (variates=True).",
        )
    if past is not None:
        before = _covariates(past, steps, f"{where}: past_covariates")
        known = _covariates(future, horizon, f"{where}: future_covariates")
        if isinstance(past, Mapping) and isinstance(future, Mapping):
            if past.keys() != future.keys():
                raise InputError(f"{where}: covariates {sorted(past)} in the past, {sorted(future)} in the future")
            known = _covariates({name: future[name] for name in past}, horizon, f"{where}: future_covariates")
        if len(before) != len(known):
            raise InputError(f"{where}: {len(before)} covariates in the past, {len(known)} in the future")
        if np.isnan(known).any():
            raise InputError(f"{where}: future_covariates: values are missing; the future has to be known")
        values = np.concatenate([values, before])
    seconds, step = _times(item, steps, interval, where)
    if length is not None:
        values, seconds = values[:, -length:], seconds[-length:]
    cut = gaps.cut(values, targets, where)
    values, counts, late = cut.values, cut.known, cut.late
    if known is not None and late:
        known = np.concatenate([cut.after, known], axis=1)
    seconds = seconds[cut.start : cut.start + values.shape[1]]
    return Context(values, counts, known, not variates, seconds, step, late, cut.missing, levels.of(values, counts))


def _items(context: Any, variates: bool) -> list[Any]:
    """The series, still as they were given."""
    if context is None or isinstance(context, (str, bytes, Mapping, set, frozenset)):
        raise InputError(f"the context is {type(context).__name__}, not numbers")
    if is_pandas(context):
        if getattr(context, "ndim", 1) == 1 or variates:
            return [context]
        return [context.iloc[:, column] for column in range(context.shape[1])]
    if library(context) == "polars":
        if hasattr(context, "collect"):
            raise InputError("the context is a LazyFrame, which holds no numbers yet", hint="Pass frame.collect().")
        return [context] if variates or not hasattr(context, "get_columns") else list(context.get_columns())
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
        rows = {name: to_numbers(values, f"{where}[{name!r}]") for name, values in given.items()}
        lengths = {name: row.shape for name, row in rows.items() if row.shape != (steps,)}
        if lengths or not rows:
            raise InputError(f"{where}: {lengths or 'none'}; expected {steps} values of each")
        values = np.stack(list(rows.values()))
    else:
        values = np.atleast_2d(to_numbers(given, where))
    if values.ndim != 2 or values.shape[1] != steps or not len(values):
        raise InputError(f"{where}: shape {values.shape}, expected (covariates, {steps})")
    _require_possible(values, where)
    return values


def _require_possible(values: Array, where: str) -> None:
    """Refuses what is no value: infinities, and what the model takes for missing. NaN stands for missing values."""
    bad = np.isinf(values) | (np.abs(values) >= LARGEST)
    if bad.any():
        first = np.unravel_index(int(bad.argmax()), bad.shape)
        place = f"step {first[-1]}" + (f" of variate {first[0]}" if len(first) > 1 else "")
        kind = "too large for the model" if np.isfinite(values[first]) else "not finite"
        raise InputError(
            f"{where}: {int(bad.sum())} of {values.size} values are {kind}, the first is {values[first]} at {place}",
            hint="Put NaN where a value is missing; it is masked.",
        )


def _oldest_first(item: Any, where: str) -> Any:
    """A pandas object with an index of times in their order; others as they are."""
    index = getattr(item, "index", None) if is_pandas(item) else None
    kind = type(index).__name__
    if index is None:
        return item
    if kind not in ("DatetimeIndex", "PeriodIndex", "TimedeltaIndex"):
        if len(index) > 2 and getattr(index, "is_monotonic_decreasing", False):
            say(f"{where}: its index runs backwards; the values are taken as they stand, the oldest first")
        return item
    if index.hasnans or index.has_duplicates:
        row = int(np.argmax(index.isna() | index.duplicated()))
        what = "is missing" if index.isna()[row] else f"{index[row]} occurs twice"
        raise InputError(f"{where}: in its index, row {row}: the time {what}", hint="Drop or merge those rows.")
    if not index.is_monotonic_increasing:
        say(f"{where}: its times are not in order: sorted, the oldest first")
        item = item.sort_index()
    if kind == "DatetimeIndex" and len(index) > 2 and item.index.freq is None:
        import pandas as pd

        if pd.infer_freq(item.index) is None:
            say(f"{where}: its times are not evenly spaced, and are taken as if they were; asfreq() marks missing ones")
    return item


def _times(item: Any, steps: int, interval: int | None, where: str) -> tuple[npt.NDArray[np.int64], int]:
    """Seconds of each step and between two: the releases up to 0.2.0 pass them on, and no layer reads them."""
    index = getattr(item, "index", None) if is_pandas(item) else None
    if index is not None and type(index).__name__ == "DatetimeIndex" and interval is None and steps > 1:
        seconds = index.to_numpy().astype("datetime64[s]").astype(np.int64)
        return seconds, max(1, int(np.median(np.diff(seconds))))
    step = DEFAULT_INTERVAL_SECONDS if interval is None else interval
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or step < 1:
        raise InputError(f"{where}: interval_seconds is {step!r}, expected a positive number of seconds")
    return np.arange(steps, dtype=np.int64) * int(step), int(step)
