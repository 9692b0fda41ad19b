"""A long table, one row for each series and time, as one part for each series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from toto_patcher.errors import InputError
from toto_patcher.runtime import stamps
from toto_patcher.runtime.numbers import library
from toto_patcher.runtime.said import say

UNNAMED = "(no id)"
"""Stands for the rows without an id where errors are listed."""


def pandas_frame(given: Any, what: str) -> Any:
    """The table as a pandas DataFrame; the given one where it is one.

    Raises:
        InputError: it is no table.
    """
    import pandas as pd

    if isinstance(given, pd.DataFrame):
        return given
    if library(given) == "polars" and hasattr(given, "collect"):
        raise InputError(f"{what} is a LazyFrame, which holds no rows yet", hint="Pass frame.collect().")
    try:
        if library(given) == "polars" and hasattr(given, "get_columns"):
            return pd.DataFrame(given.to_dict(as_series=False))
        if library(given) == "pyarrow" and hasattr(given, "to_pandas"):
            return given.to_pandas()
    except Exception as error:
        raise InputError(f"{what} cannot be made a pandas DataFrame: {error}") from error
    raise InputError(f"{what} is {type(given).__name__}, not a DataFrame", hint="Pass a DataFrame of pandas or polars.")


def require_columns(df: Any, names: Sequence[str], what: str) -> None:
    """Refuses a table without one of the columns."""
    missing = [name for name in names if name not in df.columns]
    if missing:
        index = [name for name in missing if name in df.index.names]
        hint = f"It is in the index: pass {what}.reset_index()." if index else None
        found = ", ".join(map(str, df.columns))
        raise InputError(f"{what} has no column {missing[0]!r}; it has {found}", hint=hint)
    twice = [name for name in names if (df.columns == name).sum() > 1]
    if twice:
        raise InputError(f"{what} has several columns {twice[0]!r}")


def unused(df: Any, used: Sequence[str]) -> None:
    """Says which columns of numbers nobody will look at."""
    left = [str(name) for name in df.columns if name not in used and getattr(df[name].dtype, "kind", "O") in "fiub"]
    if left:
        names = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        say(
            f"columns that are not used: {names}. Toto 1.0 takes no covariates that are known for the past only: give "
            "their future in future_df, or forecast them too (target=[...])"
        )


def split(df: Any, id_column: str, timestamp_column: str, what: str) -> Iterator[tuple[Any, Any]]:
    """Each id with its rows, sorted by time, or with the InputError that says why it has none.

    Ids come in the order in which the table has them. The times are those of ``stamps.read``: where the column can be
    read as a whole it is, otherwise each series by itself, so that one bad row is one bad series.
    """
    import pandas as pd

    gone = df[id_column].isna().to_numpy()
    if gone.any():
        row = df.index[int(gone.argmax())]
        yield (
            UNNAMED,
            InputError(
                f"{int(gone.sum())} of {len(df)} rows of {what} have no {id_column}, the first is row {row}",
                hint="Give them one, or drop them.",
            ),
        )
        df = df[~gone]
    times: Any = None
    with suppress(InputError):
        times = stamps.read(df[timestamp_column], timestamp_column) if len(df) else None
    try:
        groups = df.groupby(id_column, sort=False, observed=True).indices
        order = [key for key in pd.unique(df[id_column]) if key in groups]
    except TypeError as error:  # lists and other things that have no hash
        raise InputError(f"{what}: {id_column} cannot be used as ids: {error}") from error
    for key in order:
        rows = np.sort(groups[key])
        part = df.iloc[rows]
        try:
            own = stamps.read(part[timestamp_column], timestamp_column) if times is None else times.iloc[rows]
        except InputError as error:
            yield key, error
            continue
        part = part.copy()
        part[timestamp_column] = own.array
        yield key, part.sort_values(timestamp_column, kind="stable")
