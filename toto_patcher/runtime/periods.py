"""When the steps of a series are: are its times evenly spaced, which are missing, and which come next?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toto_patcher.errors import InputError
from toto_patcher.runtime import stamps

MOST_STEPS = 100
"""For each row; beyond that a series is more hole than series."""


@dataclass(frozen=True)
class Steps:
    """The times of one series.

    Attributes:
        places: of each time, counted in steps from the first, (rows,).
        ahead: the times to forecast, in the type of the given ones.
    """

    places: npt.NDArray[np.int64]
    ahead: Any

    @property
    def missing(self) -> int:
        """How many steps between the first and the last have no row."""
        return int(self.places[-1]) + 1 - len(self.places)


def steps(times: Any, freq: Any, horizon: int) -> Steps:
    """The steps of a series whose times (a pandas Series as ``stamps.read`` gives it) are sorted.

    Args:
        times: at least one.
        freq: what a step is: as pandas spells it, for numbers a number; ``None``: what the times say, which then have
            to be evenly spaced. With it rows may be missing; the times have to fit it all the same, though not its
            anchor: weeks may begin on any day, and months on the 15th.

    Raises:
        InputError: a time occurs twice, the times are uneven, or do not fit ``freq``; with the first that does not.
    """
    twice = times.duplicated().to_numpy()
    if twice.any():
        place = int(twice.argmax())
        raise InputError(
            f"timestamps occur twice: {times.iloc[place]} at row {times.index[place]}, {int(twice.sum())} in all",
            hint="Keep one of each; if clocks were set back there, give the column its time zone.",
        )
    try:
        return _of_numbers(times, freq, horizon) if times.dtype.kind in "iuf" else _of_dates(times, freq, horizon)
    except InputError:
        raise
    except (ValueError, OverflowError, TypeError) as error:  # of pandas: beyond the year 2262, say
        raise InputError(f"its times cannot be counted in steps: {error}", hint=_MISFIT) from error


def _of_dates(times: Any, freq: Any, horizon: int) -> Steps:
    import pandas as pd

    index = pd.DatetimeIndex(times)
    if freq is None:
        grid = _inferred(index)
        if grid is None:
            raise InputError(f"its timestamps are not regular{_where(index)}", hint=_UNEVEN)
        return Steps(np.arange(len(index)), _after(index, grid, horizon))
    if isinstance(freq, (int, float, np.number)):
        raise InputError(f"freq is {freq!r}, a number, and the times are dates", hint='Such as "h", "15min", "D".')
    grid = offset(freq)
    if grid.n < 1:
        raise InputError(f"freq is {freq!r}, and must go forward")
    for candidate in _candidates(index, grid):
        found = _places(index, candidate)
        if found is not None:
            return Steps(found, _after(index, candidate, horizon))
    raise InputError(f"its timestamps do not fit freq={freq!r}{_where(index)}", hint=_MISFIT)


_ANCHORED = re.compile("(?:B|Business)?(Month|Quarter|Year)(?:Begin|End)")
"""Offsets that may begin anywhere in the month."""
_UNEVEN = "Pass freq, so that missing rows are known as such, or make it regular first (resample)."
_MISFIT = "Pass the freq that they have, or none, or make them fit it first (resample)."


def _require_bounded(steps: float, rows: int) -> None:
    """Refuses a series of which next to nothing is there: its steps would fill the memory."""
    if steps > MOST_STEPS * (rows + 100):
        raise InputError(
            f"its {rows} rows span {steps:.0f} steps: nearly all are missing",
            hint="Cut it after the hole, or resample.",
        )


def _where(index: Any) -> str:
    """The first distance that is not the usual one, in words."""
    if len(index) < 2:
        return f": there is only one, {index[0]}"
    between = np.diff(index.as_unit("ns").asi8)
    usual = np.median(between)
    odd = int(np.abs(between - usual).argmax()) if (between == between[0]).all() else int((between != usual).argmax())
    import pandas as pd

    return f": {index[odd]} is followed by {index[odd + 1]}, most are {pd.Timedelta(int(usual))} apart"


def offset(freq: Any) -> Any:
    """The offset of pandas that ``freq`` names; InputError where it names none."""
    import warnings

    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of spellings that pandas gives up
            return pd.tseries.frequencies.to_offset(freq)
    except (ValueError, TypeError) as error:
        raise InputError(f"freq is {freq!r}: {error}", hint='Such as "h", "15min", "D", "W-MON", "MS".') from error


def _inferred(index: Any) -> Any:
    """The offset that leads from each time to the next, ``None`` where none does."""
    import pandas as pd

    if len(index) == 2:
        return pd.tseries.frequencies.to_offset(index[1] - index[0])
    if len(index) < 2:
        return None
    found = pd.infer_freq(index)
    if found is not None:
        return offset(found)
    # Months from the 15th to the 15th: pandas has no name for them.
    for months in (1, 3, 6, 12):
        step = pd.DateOffset(months=months)
        places = _places(index, step)
        if places is not None and len(places) == places[-1] + 1:
            return step
    return None


def _candidates(index: Any, given: Any) -> list[Any]:
    """The offset, and where some times lie off its anchor, the same one anchored at the first time."""
    import pandas as pd

    if isinstance(given, pd.offsets.Week):
        return [given, pd.offsets.Week(given.n)]
    found = _ANCHORED.fullmatch(type(given).__name__)
    if found is None:
        return [given]
    return [given, pd.DateOffset(months={"Month": 1, "Quarter": 3, "Year": 12}[found[1]] * given.n)]


def _months(grid: Any) -> int:
    """The months between two times of an offset that has no anchor, 0 of another."""
    import pandas as pd

    return grid.kwds["months"] * grid.n if type(grid) is pd.DateOffset and set(grid.kwds) == {"months"} else 0


def _places(index: Any, grid: Any) -> Any:
    """Of each time the number of steps from the first; ``None`` where the grid leads to one never, or hardly ever."""
    if not _months(grid) and not grid.is_on_offset(index[0]):
        return None
    start, step, last = (time.timestamp() for time in (index[0], index[0] + grid, index[-1]))
    _require_bounded((last - start) / max(step - start, 1e-9), len(index))
    times = _after(index[:1], grid, None, until=index[-1])
    found = times.get_indexer(index)
    if (found < 0).any():
        return None
    # Mostly neighbours: else the grid is finer than the data.
    if len(found) > 1 and 2 * int((np.diff(found) == 1).sum()) < len(found) - 1:
        return None
    return found


def _after(index: Any, grid: Any, horizon: int | None, until: Any = None) -> Any:
    """The times of ``horizon`` steps after the last, or all from the first to ``until``."""
    import pandas as pd

    months, start = _months(grid), index[0]
    if not months:
        if horizon is None:
            return pd.date_range(index[0], until, freq=grid)
        return pd.date_range(index[-1], periods=horizon + 1, freq=grid)[1:]
    # From the first time on, or the 31st would become the 28th in February and stay it.
    last = index[-1] if until is None else until
    count = ((last.year - start.year) * 12 + last.month - start.month) // months + 1
    times = pd.DatetimeIndex([start + pd.DateOffset(months=months * k) for k in range(count + (horizon or 0))])
    return times if horizon is None else times[times > last][:horizon]


def _of_numbers(times: Any, freq: Any, horizon: int) -> Steps:
    values = times.to_numpy()
    looks = stamps.unit(values)
    way = f"pd.to_datetime(df[{times.name!r}], unit={looks or 's'!r})"
    if freq is not None and (isinstance(freq, (bool, str)) or not isinstance(freq, (int, float, np.number))):
        raise InputError(f"freq is {freq!r}, and the times are numbers", hint=f"Make them dates: {way}.")
    between = np.diff(values)
    if freq is None and not len(between):
        raise InputError("there is only one time, and no freq", hint="Pass freq: the step in the unit of the times.")
    step = float(np.median(between)) if freq is None else float(freq)
    if not step > 0:
        raise InputError(f"freq is {freq!r}, and must be above 0")
    exact = (values - values[0]) / step
    _require_bounded(float(exact[-1]), len(values))
    places = np.rint(exact).astype(np.int64)
    even = np.abs(exact - places).max() < 1e-3 and (len(places) < 2 or (np.diff(places) >= 1).all())
    if even and freq is None:
        even = bool((np.diff(places) == 1).all())
    elif even and len(places) > 1:
        even = 2 * int((np.diff(places) == 1).sum()) >= len(places) - 1
    if not even:
        odd = int(np.abs(between - step).argmax()) if len(between) else 0
        found = f": {values[odd]} is followed by {values[odd + 1]}" if len(between) else ""
        hint = f"If they are times: {way}." if looks else "Pass freq, a number, so that missing rows are known as such."
        raise InputError(f"its times are not {step:g} apart throughout{found}", hint=hint)
    whole = values.dtype.kind in "iu" and step == int(step)
    ahead = np.arange(1, horizon + 1) * (int(step) if whole else step) + values[-1]
    return Steps(places, ahead.astype(values.dtype) if whole else ahead)
