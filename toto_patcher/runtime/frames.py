"""Forecasts of the series in a long table, one row for each series and time, as users of Chronos know them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toto_patcher.errors import InputError
from toto_patcher.runtime import contexts, periods, tables
from toto_patcher.runtime.contexts import Context
from toto_patcher.runtime.forecast import LEVELS, check_levels
from toto_patcher.runtime.numbers import Array, to_numbers
from toto_patcher.runtime.said import say

if TYPE_CHECKING:
    from toto_patcher.runtime.pipeline import TotoPipeline

ON_ERROR = ("raise", "skip")


def predict(
    pipeline: TotoPipeline,
    df: Any,
    *,
    prediction_length: int,
    quantile_levels: Sequence[float] = LEVELS,
    id_column: str = "item_id",
    timestamp_column: str = "timestamp",
    target: str | Sequence[str] = "target",
    future_df: Any = None,
    freq: Any = None,
    on_error: str = "raise",
    context_length: int | None = None,
    interval_seconds: int | None = None,
    **options: Any,
) -> Any:
    """Forecasts every series of a table: a DataFrame of pandas or polars, or a table of pyarrow.

    Args:
        df: rows of any order; each series is sorted by its timestamps. Those are dates of any kind, or numbers (then
            the forecast's are numbers too). Text is read where it can mean one date only. Missing values of the target
            are masked; a ``DataWarning`` says how many.
        target: the column to forecast; several are forecast together, as variates of one series.
        future_df: known covariates: the same ids, ``prediction_length`` later timestamps for each, and columns that
            ``df`` has as well.
        freq: of the timestamps, as pandas spells it, or a number where they are numbers. By default it is inferred for
            each series, which must then be regular. With it rows may be missing: their values are masked, and that is
            said. It need not name the day at which the data's weeks or months begin.
        on_error: "raise" for the first series that cannot be forecast, or "skip" it and forecast the others: then
            ``.attrs["errors"]`` of the result holds the reasons by id.
        context_length, interval_seconds: as of ``TotoPipeline.predict``.
        options: ``num_samples``, ``samples_per_batch``, ``seed``, ``progress`` of ``TotoPipeline.predict``.

    Returns:
        A DataFrame of pandas with the columns ``id_column``, ``timestamp_column``, ``target_name``, ``predictions``
        (the mean of the samples) and one for each level, named by it: "0.1". Series in the order of ``df``.

    Raises:
        InputError: a column is missing, a series cannot be forecast, or as ``TotoPipeline.predict``.
    """
    levels = check_levels(quantile_levels)
    if freq is not None and not isinstance(freq, (int, float)):
        periods.offset(freq)  # wrong for all series, or for none
    if on_error not in ON_ERROR:
        raise InputError(f'on_error is {on_error!r}, expected "raise" or "skip"')
    targets = [target] if isinstance(target, str) else list(target)
    df = tables.pandas_frame(df, "df")
    tables.require_columns(df, [id_column, timestamp_column, *targets], "df")
    if not len(df) or not targets:
        raise InputError("df holds no series" if targets else "target names no column")
    covariates: list[str] = []
    known: dict[Any, Any] = {}
    if future_df is not None:
        future_df = tables.pandas_frame(future_df, "future_df")
        tables.require_columns(future_df, [id_column, timestamp_column], "future_df")
        covariates = [name for name in future_df.columns if name not in (id_column, timestamp_column, *targets)]
        tables.require_columns(df, covariates, "df")
        known = dict(tables.split(future_df, id_column, timestamp_column, "future_df"))
    tables.unused(df, [id_column, timestamp_column, *targets, *covariates])
    reader = _Reader(targets, covariates, timestamp_column, freq, prediction_length)
    settings = {"context_length": context_length, "interval_seconds": interval_seconds}
    found: dict[Any, tuple[Context, Any]] = {}
    errors: dict[Any, InputError] = {}
    absent: dict[Any, int] = {}
    for key, part in tables.split(df, id_column, timestamp_column, "df"):
        try:
            if isinstance(part, InputError):
                raise part
            context, ahead, absent[key] = reader.read(part, known.get(key), settings)
            found[key] = (context, ahead)
        except InputError as error:
            named = InputError(f"{id_column} {key!r}: {error.message.removeprefix(': ')}", hint=error.hint)
            if on_error == "raise":
                named.hint = " ".join(filter(None, [error.hint, 'on_error="skip" forecasts the others.']))
                raise named from error
            errors[key] = named
    _say(absent, found, errors)
    forecasts = pipeline.predict_contexts([one for one, _ in found.values()], prediction_length, **options)
    samples = [forecast.numpy().reshape(-1, len(targets), prediction_length) for forecast in forecasts]
    result = _result(df, id_column, timestamp_column, targets, levels, found, samples)
    result.attrs["errors"] = {_plain(key): str(error) for key, error in errors.items()}
    return result


class _Reader:
    """Makes contexts of the rows of one series."""

    def __init__(self, targets: list[str], covariates: list[str], timestamp: str, freq: Any, horizon: int) -> None:
        self._targets, self._covariates, self._timestamp = targets, covariates, timestamp
        self._freq, self._horizon = freq, horizon

    def read(self, part: Any, known: Any, settings: dict[str, Any]) -> tuple[Context, Any, int]:
        """The context, the times to forecast, and how many rows are missing."""
        steps = periods.steps(part[self._timestamp], self._freq, self._horizon)
        values = self._rows(part, self._targets, steps)
        past = future = None
        if self._covariates:
            past = self._rows(part, self._covariates, steps)
            future = self._known(known, steps.ahead)
        single = len(self._targets) == 1
        (context,) = contexts.read(
            [values[0] if single else values],
            self._horizon,
            variates=not single,
            past_covariates=None if past is None else [past],
            future_covariates=None if future is None else [future],
            name="",
            **settings,
        )
        return context, steps.ahead, steps.missing

    def _rows(self, part: Any, names: list[str], steps: periods.Steps) -> Array:
        """The columns as rows, NaN where the table has no row."""
        rows = np.full((len(names), int(steps.places[-1]) + 1), np.nan)
        for row, name in zip(rows, names, strict=True):
            row[steps.places] = to_numbers(part[name], str(name))
        return rows

    def _known(self, known: Any, ahead: Any) -> Array:
        if isinstance(known, InputError):
            raise InputError(f"future_df: {known.message}", hint=known.hint)
        if known is None or list(known[self._timestamp]) != list(ahead):
            rows = "no rows" if known is None else f"{len(known)} rows"
            raise InputError(f"future_df has {rows}, expected the {len(ahead)} times from {ahead[0]} on")
        return np.stack([to_numbers(known[name], f"future_df: {name}") for name in self._covariates])


def _say(absent: dict[Any, int], found: dict[Any, Any], errors: dict[Any, InputError]) -> None:
    holes = {key: count for key, count in absent.items() if count and key in found}
    if holes:
        first, count = next(iter(holes.items()))
        more = f" and {len(holes) - 1} more" if len(holes) > 1 else ""
        say(f"rows are missing between others, {sum(holes.values())} in all ({first!r}: {count}{more})")
    contexts.say_missing([one for one, _ in found.values()], [repr(key) for key in found])
    if errors:
        key, error = next(iter(errors.items()))
        say(f"{len(errors)} series cannot be forecast and are skipped, {key!r} among them: {error.message}")


def _result(
    df: Any,
    id_column: str,
    timestamp_column: str,
    targets: list[str],
    levels: list[float],
    found: dict[Any, tuple[Context, Any]],
    samples: list[Any],
) -> Any:
    import pandas as pd

    names = [id_column, timestamp_column, "target_name", "predictions", *map(str, levels)]
    parts = []
    for (key, (_, ahead)), drawn in zip(found.items(), samples, strict=True):
        quantiles = np.quantile(drawn, levels, axis=0)
        for number, name in enumerate(targets):
            columns = {id_column: key, timestamp_column: ahead, "target_name": name}
            columns["predictions"] = drawn[:, number].mean(axis=0)
            columns |= {str(level): quantiles[place, number] for place, level in enumerate(levels)}
            parts.append(pd.DataFrame(columns))
    if not parts:
        return pd.DataFrame({name: [] for name in names})
    result = pd.concat(parts, ignore_index=True)
    if result[id_column].dtype != df[id_column].dtype:
        result[id_column] = result[id_column].astype(df[id_column].dtype)
    return result


def _plain(key: Any) -> Any:
    """An id that can be a key of JSON: Parquet keeps ``attrs`` as such."""
    key = key.item() if isinstance(key, np.generic) else key
    return key if isinstance(key, (str, int, float, bool)) else str(key)
