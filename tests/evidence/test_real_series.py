"""Real series: what installed packages ship, and what a CSV file has."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from toto_patcher.errors import InputError, UsageError
from toto_patcher.evidence import series


def test_statsmodels_series_are_those_its_loaders_give() -> None:
    from statsmodels import datasets

    found = {one.name: one for one in series.load(["elnino", "sunspots", "nile", "co2"])}
    months = datasets.elnino.load_pandas().data.drop(columns="YEAR").to_numpy().reshape(-1)
    assert np.array_equal(found["elnino"].values, months.astype(np.float32)) and found["elnino"].season == 12
    assert (
        found["sunspots"].values.tolist() == datasets.sunspots.load_pandas().data["SUNACTIVITY"].astype("f4").tolist()
    )
    assert found["nile"].values.tolist() == datasets.nile.load_pandas().data["volume"].tolist()
    weeks = datasets.co2.load_pandas().data["co2"]
    assert weeks.isna().sum() == 59  # as the module says
    assert np.array_equal(found["co2"].values, weeks.reset_index(drop=True).interpolate().to_numpy(dtype=np.float32))


@pytest.mark.parametrize("name", [name for name, there in series.available().items() if there])
def test_every_series_is_finite_long_enough_and_says_what_it_is(name: str) -> None:
    (found,) = series.load([name])
    assert found.values.dtype == np.float32 and found.values.ndim == 1 and np.isfinite(found.values).all()
    assert len(found.values) >= 100 and found.season >= 1 and found.interval_seconds > 0
    assert found.source.startswith(series.packages()[name])


def test_load_and_prices_come_with_pmdarima_which_is_read_without_being_imported() -> None:
    taylor, msft = series.load(["taylor", "msft"])
    assert len(taylor.values) == 4032 and taylor.values[:2].tolist() == [22262.0, 21756.0] and taylor.season == 48
    assert (msft.kind, len(msft.values), taylor.kind) == ("price", 7983, "load")
    assert "pmdarima" not in sys.modules


def test_a_package_that_is_missing_is_named_only_when_its_series_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pmdarima" else real(name))
    assert not series.available()["taylor"]
    assert "taylor" not in [one.name for one in series.load()]
    with pytest.raises(UsageError, match="the series taylor comes with pmdarima") as refused:
        series.load(["nile", "taylor"])
    assert refused.value.hint == "pip install --no-deps pmdarima"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="backtesting and pmdarima and statsmodels"):
        series.load()


def test_an_unknown_series_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match="no series gold") as refused:
        series.load(["gold"])
    assert "taylor" in str(refused.value.hint)


def written(folder: Path, text: str) -> Path:
    path = folder / "prices.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("date,close\n2024-01-01,1.5\n2024-01-02,2\n2024-01-03,-3e2\n", "close"),
        ("\ufeffDate;Close\r\n1;1.5\r\n\r\n2;2\r\n3;-3e2", "close"),
        ('t\tvol\tPrice\n"a\nb"\t1\t1.5\nc\t1\t2\nd\t1\t-3e2\n', "Price"),
    ],
)
def test_a_column_is_read_whatever_the_dialect(text: str, column: str, tmp_path: Path) -> None:
    found = series.from_csv(written(tmp_path, text), column)
    assert found.values.tolist() == [1.5, 2.0, -300.0] and (found.name, found.season) == ("prices", 1)
    assert found.source == f"prices.csv, column {column}"


def test_gaps_are_interpolated_and_the_ends_left_off(tmp_path: Path) -> None:
    rows = ["date,close", "a,", "b,1", "c,NaN", "d,", "e,4", "f,2", "g"]
    assert series.from_csv(written(tmp_path, "\n".join(rows))).values.tolist() == [1.0, 2.0, 3.0, 4.0, 2.0]
    assert series.fill_gaps(np.array([math.nan, math.nan])).size == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,open,high\n1,2,3\n", r"prices.csv:1: there is no column close; there are: date, open, high"),
        ("close,Close,CLOSE\n", "header and no values"),
        ("Close,CLOSE\n1,2\n", "there is no column close"),
        ("date,close\n1,2\n\n2,12 USD\n", "prices.csv:4: column close holds '12 USD', which is no finite number"),
        ("close\n1\ninf\n", "prices.csv:3: .*'inf'"),
        ("close\n1\n", "has 1 values, and 2 are needed"),
        ("close\n\nnan\nnan\n", "has 0 values"),
        ("close\n", "header and no values"),
        ("", "is empty"),
        ("\n\n", "is empty"),
    ],
)
def test_a_csv_file_that_cannot_be_used_says_why(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        series.from_csv(written(tmp_path, text))


def test_a_file_that_is_missing_or_binary_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: the CSV file cannot be read: No such file"):
        series.from_csv(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"close\n\xff\xfe\x00")
    with pytest.raises(InputError, match="not text"):
        series.from_csv(tmp_path / "b.csv")
