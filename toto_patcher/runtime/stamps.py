"""A column of times: dates as pandas has them, or numbers that go on as numbers. What can be two things is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from toto_patcher.errors import InputError
from toto_patcher.runtime.numbers import to_numbers
from toto_patcher.runtime.said import say

_YEAR_FIRST = re.compile(r"\s*\d{4}-?\d\d")
_UNITS = (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
_FROM, _TO = 315_532_800, 4_102_444_800
"""POSIX seconds of 1980 and 2100: numbers in between, in one of the units, look like times."""


def read(column: Any, name: str) -> Any:
    """A Series of the same index: of datetimes, or of numbers (steps, seconds, years: whatever they count).

    Args:
        column: a pandas Series: datetimes, dates, periods, text, numbers.
        name: of the column, for messages.

    Raises:
        InputError: a time is missing, or cannot be read, or can be read in two ways; with its row.
    """
    import pandas as pd

    if getattr(column, "ndim", 1) != 1:
        raise InputError(f"there are several columns {name!r}")
    gone = column.isna().to_numpy()
    if gone.any():
        row = column.index[int(gone.argmax())]
        raise InputError(
            f"{int(gone.sum())} of {len(column)} times in {name!r} are missing, the first at row {row}",
            hint="Drop those rows, or fill their times in.",
        )
    if isinstance(column.dtype, pd.PeriodDtype):
        return column.dt.to_timestamp()
    kind = getattr(column.dtype, "kind", "O")
    if kind == "M" or isinstance(column.dtype, pd.DatetimeTZDtype):
        return column if isinstance(column.dtype, (np.dtype, pd.DatetimeTZDtype)) else pd.to_datetime(column)
    if kind in "iuf" and not isinstance(column.dtype, pd.CategoricalDtype):
        return _numbers(column, name)
    if kind in "bmc":
        raise InputError(f"{name!r} holds {column.dtype}, not times")
    values = list(column)
    if all(isinstance(value, str) for value in values):
        return _text(pd.Series(values, index=column.index, dtype=object), name)
    if all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in values):
        return _numbers(pd.Series(values, index=column.index), name)
    odd = next((place for place, value in enumerate(values) if not hasattr(value, "year")), None)
    if odd is None:  # datetimes, dates, Timestamps, Periods
        if all(isinstance(value, pd.Period) for value in values):
            return pd.Series(pd.PeriodIndex(values).to_timestamp(), index=column.index)
        return _parsed(column, name)
    raise InputError(
        f"{name!r} holds times of several kinds: {values[odd]!r} at row {column.index[odd]}", hint=_hint(name)
    )


def _hint(name: str) -> str:
    return f"Convert the column first: df[{name!r}] = pd.to_datetime(df[{name!r}], format=...)."


def _parsed(column: Any, name: str, **options: Any) -> Any:
    """``pd.to_datetime``, with its complaints in our words."""
    import pandas as pd

    try:
        found = pd.to_datetime(column, **options)
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error).split(". You might")[0].splitlines()[0]
        raise InputError(f"{name!r} cannot be read as times: {reason}", hint=_hint(name)) from error
    if getattr(found.dtype, "kind", "O") != "M":
        raise InputError(f"{name!r} cannot be read as times of one time zone", hint=_hint(name) + " utc=True")
    return found


def _text(column: Any, name: str) -> Any:
    """Dates as text: the year first as in ISO 8601, else only if day and month cannot be taken for each other."""
    import warnings

    iso = column.str.match(_YEAR_FIRST)
    if iso.all():
        zones = column.str.extract(r"\d[T ].*?(Z|[+-]\d\d:?\d\d)\s*$", expand=False)
        if zones.notna().any() and zones.isna().any():
            place = int(zones.isna().to_numpy().argmax())
            row = column.index[place]
            raise InputError(
                f"{name!r} holds times with a zone and without: {column.iloc[place]!r} at row {row}", hint=_hint(name)
            )
        if zones.nunique() > 1:
            say(f"{name!r} holds times of several UTC offsets: they are taken as UTC")
            return _parsed(column, name, format="ISO8601", utc=True)
        return _parsed(column, name, format="ISO8601")
    if iso.any():
        one, other = int(iso.to_numpy().argmax()), int((~iso).to_numpy().argmax())
        raise InputError(
            f"{name!r} holds dates in several forms: {column.iloc[one]!r} at row {column.index[one]}, "
            f"{column.iloc[other]!r} at row {column.index[other]}",
            hint=_hint(name),
        )
    read = {}
    for first in (False, True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that another order of day and month was expected
                read[first] = _parsed(column, name, dayfirst=first)
        except InputError as error:
            refusal = error
    if not read:
        raise refusal
    if len(read) == 2 and not (read[True] == read[False]).all():
        place = int((read[True] != read[False]).to_numpy().argmax())
        one, two = (read[first].iloc[place].strftime("%d %B %Y") for first in (True, False))
        row = column.index[place]
        raise InputError(f"{name!r}: {column.iloc[place]!r} at row {row} is {one} or {two}", hint=_hint(name))
    return next(iter(read.values()))


def _numbers(column: Any, name: str) -> Any:
    """Numbers stay numbers: the forecast's times go on in the same unit, whatever it is."""
    import pandas as pd

    values = to_numbers(column, repr(name))
    if not np.isfinite(values).all():
        row = column.index[int((~np.isfinite(values)).argmax())]
        raise InputError(f"{name!r} is not finite at row {row}")
    whole = values == np.floor(values)
    for form, low, high in (("%Y%m%d", 19000101, 21001231), ("%Y%m", 190001, 210012)):
        if whole.all() and (values >= low).all() and (values <= high).all():
            text = pd.Series(values.astype(np.int64).astype(str), index=column.index)
            if pd.to_datetime(text, format=form, errors="coerce").notna().all():
                example = text.iloc[0]
                raise InputError(
                    f"{name!r} holds numbers that look like dates written {form}, such as {example}",
                    hint=f"Convert it first: pd.to_datetime(df[{name!r}].astype(str), format={form!r}).",
                )
    if isinstance(column.dtype, np.dtype):
        return column
    return pd.Series(values.astype(np.int64) if column.dtype.kind in "iu" else values, index=column.index)


def unit(values: Any) -> str | None:
    """The unit in which numbers would be times of today since 1970, ``None`` if in none."""
    for name, factor in _UNITS:
        if len(values) and (values >= _FROM * factor).all() and (values <= _TO * factor).all():
            return name
    return None
