"""Times of a table: how they are read, whether they fit, and which come next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from toto_patcher.errors import InputError
from toto_patcher.runtime import periods, stamps, tables
from toto_patcher.runtime.said import DataWarning

DAYS = pd.date_range("2024-01-01", periods=100)
HOURS = pd.date_range("2024-03-29", periods=100, freq="h")


def fifteenth(count: int, months: int) -> list[pd.Timestamp]:
    return [pd.Timestamp(1990 + i * months // 12, i * months % 12 + 1, 15) for i in range(count)]


def ahead(times: Any, freq: Any = None, horizon: int = 2) -> list[Any]:
    return list(periods.steps(stamps.read(pd.Series(times, name="timestamp"), "timestamp"), freq, horizon).ahead)


@pytest.mark.parametrize(
    ("written", "first"),
    [
        (DAYS.strftime("%Y-%m-%d"), "2024-04-10"),
        (DAYS.strftime("%Y%m%d"), "2024-04-10"),
        (DAYS.strftime("%d/%m/%Y"), "2024-04-10"),
        (DAYS.strftime("%m/%d/%Y"), "2024-04-10"),
        ([f"{day.month}/{day.day}/{day.year}" for day in DAYS], "2024-04-10"),
        (DAYS.strftime("%d.%m.%Y"), "2024-04-10"),
        (DAYS.strftime("%d %b %Y"), "2024-04-10"),
        (DAYS.astype("string"), "2024-04-10"),
        (pd.Categorical(DAYS.strftime("%Y-%m-%d")), "2024-04-10"),
        ([day.date() for day in DAYS], "2024-04-10"),
        (DAYS.to_period("D"), "2024-04-10"),
        (DAYS.as_unit("us"), "2024-04-10"),
        (DAYS.strftime("%Y-%m-%dT00:00:00Z"), "2024-04-10T00:00Z"),
    ],
)
def test_dates_of_every_kind(written: Any, first: str) -> None:
    assert ahead(written)[0] == pd.Timestamp(first)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ([f"01/{month:02d}/2024" for month in range(1, 13)], "'01/02/2024' at row 1 is 01 February 2024 or 02 January"),
        (["2024-01-01", "02.01.2024"], "several forms: '2024-01-01' at row 0, '02.01.2024' at row 1"),
        (["2024-01-01T00:00", "2024-01-02T00:00Z"], "with a zone and without"),
        (["2024-13-45"], "2024-13-45"),
        (["yesterday"], "yesterday"),
        ([pd.Timestamp("2024"), "2024-01-02"], "several kinds: '2024-01-02' at row 1"),
        ([pd.Timestamp("2024"), None], "1 of 2 times in 'timestamp' are missing, the first at row 1"),
        ([1.0, np.inf], "not finite at row 1"),
        ([True, False], "bool, not times"),
        ([20240101 + day for day in range(31)], "look like dates written %Y%m%d"),
        ([202401 + month for month in range(12)], "look like dates written %Y%m,"),
    ],
)
def test_what_cannot_be_read_or_in_two_ways_is_refused(written: list[Any], told: str) -> None:
    with pytest.raises(InputError) as refusal:
        ahead(written)
    assert told in str(refusal.value)


def test_numbers_go_on_in_their_own_unit() -> None:
    seconds = HOURS.as_unit("s").asi8
    assert ahead(seconds)[0] == seconds[-1] + 3600
    assert ahead(seconds * 1000)[0] == seconds[-1] * 1000 + 3_600_000
    assert ahead(seconds / 1.0)[0] == seconds[-1] + 3600
    assert ahead(range(100)) == [100, 101] and ahead(range(1920, 2020)) == [2020, 2021]
    assert ahead(pd.array(seconds, dtype="Int64"))[0] == seconds[-1] + 3600
    assert ahead(np.delete(seconds, 50), 3600)[0] == seconds[-1] + 3600
    for times, freq, told in (
        (np.delete(seconds, 50), None, "not 3600 apart throughout"),
        (seconds, "h", "freq is 'h', and the times are numbers"),
        (pd.date_range("2010", periods=50, freq="MS").as_unit("s").asi8, None, "apart throughout"),
    ):
        with pytest.raises(InputError, match=told) as refusal:
            ahead(times, freq)
        assert "unit='s'" in str(refusal.value.hint)


@pytest.mark.parametrize(
    ("times", "freq", "first"),
    [
        (pd.date_range("2024-01-01", periods=60, freq="7D"), "W", "2025-02-24"),
        (pd.date_range("2024-01-05", periods=60, freq="7D"), "W", "2025-02-28"),
        (pd.date_range("2024-01-01", periods=60, freq="14D"), "2W", "2026-04-20"),
        (fifteenth(60, 1), "MS", "1995-01-15"),
        (fifteenth(60, 1), None, "1995-01-15"),
        (fifteenth(60, 3), "QS", "2005-01-15"),
        (fifteenth(60, 12), "YS", "2050-01-15"),
        (pd.date_range("2010", periods=61, freq="ME"), "MS", "2015-02-28"),
        (pd.date_range("2010", periods=61, freq="MS"), "MS", "2015-02-01"),
        (pd.date_range("2010", periods=61, freq="QE"), "QS", "2025-06-30"),
        (pd.date_range("2024", periods=60, freq="B"), "B", "2024-03-25"),
        (HOURS + pd.Timedelta("17min"), "h", "2024-04-02 04:17"),
        (HOURS, pd.Timedelta("1h"), "2024-04-02 04:00"),
        (HOURS[:1], "h", "2024-03-29 01:00"),
        (DAYS, pd.DateOffset(days=1), "2024-04-10"),
        (fifteenth(60, 1), pd.DateOffset(months=1), "1995-01-15"),
        (pd.date_range("2010", periods=60, freq="SMS"), "SMS", "2012-07-01"),
        (pd.date_range("2010", periods=30, freq="WOM-2TUE"), None, "2012-07-10"),
        ([pd.Timestamp("2010-01-31") + pd.DateOffset(months=i) for i in range(20)], "MS", "2011-09-30"),
        (HOURS[:2], None, "2024-03-29 02:00"),
    ],
)
def test_the_first_step_is_the_next_period(times: Any, freq: Any, first: str) -> None:
    assert ahead(times, freq)[0] == pd.Timestamp(first)


def test_clocks_that_are_changed_move_no_step() -> None:
    berlin = pd.date_range("2024-03-01", periods=30, tz="Europe/Berlin")
    assert ahead(berlin) == ahead(berlin, "D") == list(pd.date_range("2024-03-31", periods=2, tz="Europe/Berlin"))
    hours = pd.date_range("2024-03-30", periods=25, freq="h", tz="Europe/Berlin")
    assert [time.hour for time in ahead(hours)] == [1, 3]
    back = pd.date_range("2024-10-26", periods=60, freq="h", tz="Europe/Berlin")
    with pytest.raises(InputError, match="occur twice: 2024-10-27 02:00:00 at row 27") as refusal:
        ahead(back.tz_localize(None))
    assert "time zone" in str(refusal.value.hint)


@pytest.mark.parametrize(
    ("times", "freq", "told"),
    [
        (HOURS.delete(50), None, "not regular: 2024-03-31 01:00:00 is followed by 2024-03-31 03:00:00"),
        (HOURS[:1], None, "there is only one"),
        (HOURS, "D", "do not fit freq='D'"),
        (HOURS, "30min", "do not fit freq='30min'"),
        (DAYS, "B", "do not fit freq='B'"),
        (pd.date_range("2010", periods=60, freq="ME"), "D", "do not fit freq='D'"),
        (pd.date_range("2010", periods=60, freq="ME"), "B", "do not fit freq='B'"),
        (HOURS, "fortnight", "freq is 'fortnight'"),
        (HOURS, "-1h", "must go forward"),
        (HOURS[[0, 0, 1, 2]], "h", "occur twice"),
        (HOURS, 3600, "freq is 3600, a number"),
        ([pd.Timestamp("1700"), pd.Timestamp("2200")], "s", "its 2 rows span 15778454400 steps"),
        (pd.date_range("2262-04-01", periods=11), "D", "cannot be counted in steps"),
        ([0, 10**12], 1, "its 2 rows span 1000000000000 steps"),
    ],
)
def test_times_that_do_not_fit_are_refused(times: Any, freq: Any, told: str) -> None:
    with pytest.raises(InputError) as refusal:
        ahead(times, freq)
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    ("times", "freq"), [(HOURS, "h"), (DAYS[::7], "W"), (pd.DatetimeIndex(fifteenth(60, 1)), "MS")]
)
def test_with_freq_missing_rows_are_known_as_such(times: Any, freq: str) -> None:
    holed = times.delete([5, 6])
    found = periods.steps(pd.Series(holed), freq, 1)
    assert found.missing == 2 and found.places.tolist() == [0, 1, 2, 3, 4, *range(7, len(times))]
    assert found.ahead[0] == periods.steps(pd.Series(times), freq, 1).ahead[0]


def test_tables_of_other_libraries_and_what_is_no_table() -> None:
    frame = pd.DataFrame({"item_id": ["a"], "timestamp": DAYS[:1], "target": [1.0]})
    import polars
    import pyarrow as arrow

    assert tables.pandas_frame(polars.from_pandas(frame), "df").equals(frame)
    assert tables.pandas_frame(arrow.Table.from_pandas(frame), "df").equals(frame)
    with pytest.raises(InputError, match="LazyFrame"):
        tables.pandas_frame(polars.from_pandas(frame).lazy(), "df")
    with pytest.raises(InputError, match="df is dict, not a DataFrame"):
        tables.pandas_frame({}, "df")
    with pytest.raises(InputError, match="no column 'timestamp'") as refusal:
        tables.require_columns(frame.set_index("timestamp"), ["timestamp"], "df")
    assert "reset_index" in str(refusal.value.hint)
    with pytest.warns(DataWarning, match=r"not used: load\. Toto 1\.0 takes no covariates .* past only"):
        tables.unused(frame.assign(load=1.0, note="x"), ["item_id", "timestamp", "target"])


def test_one_bad_row_is_one_bad_series() -> None:
    rows = [{"item_id": key, "timestamp": str(day)} for key in ("a", None, "b") for day in DAYS[:3]]
    frame = pd.DataFrame(rows)
    frame.loc[8, "timestamp"] = "soon"
    found = dict(tables.split(frame, "item_id", "timestamp", "df"))
    assert list(found) == [tables.UNNAMED, "a", "b"] and len(found["a"]) == 3
    assert "3 of 9 rows of df have no item_id, the first is row 3" in str(found[tables.UNNAMED])
    assert "several forms" in str(found["b"]) and "at row 8" in str(found["b"])
    with pytest.raises(InputError, match="cannot be used as ids"):
        dict(tables.split(frame.assign(item_id=[[1]] * 9), "item_id", "timestamp", "df"))
