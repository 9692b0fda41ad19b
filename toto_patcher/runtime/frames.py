"""Forecasts of the series in a long table, one row for each series and time, as users of Chronos know them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toto_patcher.errors import InputError
from toto_patcher.runtime.forecast import LEVELS, check_levels

if TYPE_CHECKING:
    from toto_patcher.runtime.pipeline import TotoPipeline


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
    freq: str | None = None,
    **options: Any,
) -> Any:
    """Forecasts every series of a pandas DataFrame.

    Args:
        df: rows of any order; each series is sorted by its timestamps, which must be regular.
        target: the column to forecast; several are forecast together, as variates of one series.
        future_df: known covariates: the same ids, ``prediction_length`` later timestamps for each, and columns that
            ``df`` has as well.
        freq: of the timestamps, as pandas spells it; by default it is inferred for each series.
        options: further arguments of ``TotoPipeline.predict``.

    Returns:
        A DataFrame with the columns ``id_column``, ``timestamp_column``, ``target_name``, ``predictions`` (the mean of
        the samples) and one for each level, named by it: "0.1". Series in the order in which ``df`` brings them.

    Raises:
        InputError: a column is missing, a series has gaps, or as ``TotoPipeline.predict``.
    """
    import pandas as pd

    levels = check_levels(quantile_levels)
    targets = [target] if isinstance(target, str) else list(target)
    _require_columns(df, [id_column, timestamp_column, *targets], "df")
    covariates = []
    if future_df is not None:
        _require_columns(future_df, [id_column, timestamp_column], "future_df")
        covariates = [name for name in future_df.columns if name not in (id_column, timestamp_column, *targets)]
        _require_columns(df, covariates, "df")
    series = {key: part.sort_values(timestamp_column) for key, part in df.groupby(id_column, sort=False)}
    if not series:
        raise InputError("df holds no series")
    ahead = {key: _ahead(key, part[timestamp_column], freq, prediction_length) for key, part in series.items()}
    if covariates:
        known = {key: part.sort_values(timestamp_column) for key, part in future_df.groupby(id_column, sort=False)}
        options["past_covariates"] = [_columns(part, covariates) for part in series.values()]
        options["future_covariates"] = [_known(known, key, covariates, ahead[key], timestamp_column) for key in series]
    contexts = [
        _columns(part, targets) if len(targets) > 1 else part[targets[0]].to_numpy() for part in series.values()
    ]
    try:
        forecasts = pipeline.predict(contexts, prediction_length, variates=len(targets) > 1, **options)
    except InputError as error:
        names = dict(enumerate(series))
        named = next((name for index, name in names.items() if error.message.startswith(f"series {index}:")), None)
        if named is None:
            raise
        raise InputError(f"{id_column} {named!r}: {error.message.partition(': ')[2]}", hint=error.hint) from error
    parts = []
    for key, forecast in zip(series, forecasts, strict=True):
        shape = (-1, len(targets), prediction_length)
        samples = forecast.numpy().reshape(shape)
        quantiles = np.quantile(samples, levels, axis=0)
        for number, name in enumerate(targets):
            columns = {
                id_column: key,
                timestamp_column: ahead[key],
                "target_name": name,
                "predictions": samples[:, number].mean(axis=0),
            }
            columns |= {str(level): quantiles[place, number] for place, level in enumerate(levels)}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _require_columns(df: Any, names: Sequence[str], what: str) -> None:
    if not hasattr(df, "columns") or not hasattr(df, "groupby"):
        raise InputError(f"{what} is {type(df).__name__}, not a DataFrame")
    missing = [name for name in names if name not in df.columns]
    if missing:
        raise InputError(f"{what} has no column {missing[0]!r}; it has {', '.join(map(str, df.columns))}")


def _ahead(key: Any, stamps: Any, freq: str | None, horizon: int) -> Any:
    """The timestamps of the forecast."""
    import pandas as pd

    index = pd.DatetimeIndex(pd.to_datetime(stamps))
    if index.hasnans or index.has_duplicates:
        raise InputError(f"series {key!r}: timestamps are missing or occur twice")
    found = freq or (pd.infer_freq(index) if len(index) > 2 else None)
    if found is None and len(index) == 2:
        found = index[1] - index[0]
    if found is None:
        raise InputError(f"series {key!r}: its timestamps are not regular", hint="Fill the gaps, or pass freq.")
    return pd.date_range(index[-1], periods=horizon + 1, freq=found)[1:]


def _columns(part: Any, names: Sequence[str]) -> Any:
    return part[list(names)].to_numpy().T


def _known(known: dict[Any, Any], key: Any, covariates: Sequence[str], ahead: Any, timestamp_column: str) -> Any:
    import pandas as pd

    part = known.get(key)
    if part is None or list(pd.to_datetime(part[timestamp_column])) != list(ahead):
        rows = "no rows" if part is None else f"{len(part)} rows"
        raise InputError(f"series {key!r}: future_df has {rows}, expected the {len(ahead)} times from {ahead[0]} on")
    return _columns(part, covariates)
