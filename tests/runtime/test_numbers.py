"""What holds numbers and what only looks like it, what stands for missing values, levels that float32 cannot hold."""

from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from toto_patcher.errors import InputError
from toto_patcher.runtime import contexts, gaps, levels
from toto_patcher.runtime.numbers import to_numbers
from toto_patcher.runtime.said import DataWarning

WAVE = 100 + 10 * np.sin(np.arange(50) / 4)
HOLED = np.where(np.arange(50) % 7 == 3, np.nan, WAVE)
NONE = [None if np.isnan(value) else value for value in HOLED]


@pytest.mark.parametrize(
    "given",
    [
        np.ma.masked_array(WAVE, mask=np.isnan(HOLED)),
        NONE,
        tuple(NONE),
        np.array(NONE, dtype=object),
        pd.Series(HOLED),
        pd.Series(NONE, dtype="Float64"),
        pd.Series(NONE, dtype=object),
        pd.Series(NONE, dtype="double[pyarrow]"),
        torch.tensor(HOLED, requires_grad=True),
        [None if value is None else decimal.Decimal(value) for value in NONE],
        pd.Series(pd.arrays.SparseArray(HOLED)),
    ],
    ids=lambda given: type(given).__name__,
)
def test_missing_values_are_nan_in_whatever_they_come(given: Any) -> None:
    assert np.array_equal(to_numbers(given, "x"), HOLED, equal_nan=True)


def test_polars_comes_with_its_nulls() -> None:
    import polars

    assert np.array_equal(to_numbers(polars.Series(NONE), "x"), HOLED, equal_nan=True)
    both = to_numbers(polars.DataFrame({"a": NONE, "b": WAVE}), "x")
    assert np.array_equal(both, [HOLED, WAVE], equal_nan=True)
    assert len(contexts.read(polars.DataFrame({"a": WAVE, "b": WAVE}), 4)) == 2


def test_numbers_of_other_kinds_stay_themselves() -> None:
    assert to_numbers([True, False], "x").tolist() == [1.0, 0.0]
    assert to_numbers(pd.Series([1, None, 3], dtype="Int64"), "x")[[0, 2]].tolist() == [1.0, 3.0]
    assert to_numbers(pd.Series([True, None], dtype="boolean"), "x")[0] == 1.0
    assert to_numbers(torch.tensor([1.5], dtype=torch.bfloat16), "x").tolist() == [1.5]
    nested = [np.ma.masked_array([1.0, 2.0], mask=[True, False]), torch.tensor([3.0, 4.0])]
    assert np.array_equal(to_numbers(nested, "x"), [[np.nan, 2], [3, 4]], equal_nan=True)
    assert to_numbers(np.arange(3) * 2**55, "x").tolist() == [0.0, 2.0**55, 2.0**56]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["1.5", "2.5"], "the first is 1.5"),
        (pd.Series(["1.5"]), "step 0 holds the text '1.5'"),
        ([1.0, None, "2,5"], "step 2 holds the text '2,5'"),
        (pd.Series(["1.5"], dtype="string"), "the text"),
        (WAVE + 1j, "complex128"),
        (torch.tensor([1j]), "complex64"),
        (pd.date_range("2024", periods=3), "datetime64"),
        (pd.Series(pd.date_range("2024", periods=3)), "datetime64"),
        (torch.zeros(3, device="meta"), "meta"),
        (torch.zeros(3).to_sparse(), "not an array of numbers"),
        ([[1.0], [1.0, 2.0]], "lengths 1, 2"),
        ([object()], "a object"),
        (np.arange(9) + 2**60, "float64 cannot hold"),
        (torch.arange(9) + 2**60, "float64 cannot hold"),
        ([2**70 + step for step in range(9)], "float64 cannot hold"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_number_is_refused_with_its_place(given: Any, told: str) -> None:
    with pytest.raises(InputError, match="x") as refusal:
        to_numbers(given, "x")
    assert told in str(refusal.value)


def test_gaps_are_filled_inside_and_cut_at_the_ends() -> None:
    row = np.array([np.nan, 1.0, np.nan, np.nan, 4.0, np.nan])
    found = gaps.cut(np.stack([row, np.arange(6.0)]), 1, "x")
    assert found.values.tolist() == [[1, 2, 3, 4], [1, 2, 3, 4]] and found.known[0].tolist() == [1, 0, 0, 1]
    assert (found.start, found.late, found.missing) == (1, 1, 4) and found.after.tolist() == [[5]]
    whole = gaps.cut(np.arange(4.0)[None], 1, "x")
    assert whole.known.all() and (whole.start, whole.late, whole.missing) == (0, 0, 0)
    # A variate that ends before another is held: the other says where the series ends.
    held = gaps.cut(np.stack([row, np.arange(6.0)]), 2, "x")
    assert held.values[0].tolist() == [1, 1, 2, 3, 4, 4] and held.late == 0


@pytest.mark.parametrize(
    ("values", "targets", "told"),
    [
        ([[np.nan, np.nan]], 1, "all 2 values are missing"),
        ([[1.0, 2.0], [np.nan, np.nan]], 2, "variate 1: all 2"),
        ([[1.0, np.nan], [1.0, np.nan]], 1, "a covariate is missing after"),
        ([[np.nan, 1.0], [1.0, np.nan]], 1, "a covariate has no values"),
    ],
)
def test_nothing_to_forecast_from(values: list[list[float]], targets: int, told: str) -> None:
    with pytest.raises(InputError, match=told):
        gaps.cut(np.array(values), targets, "x")


def test_the_missing_are_counted_once_for_all_series() -> None:
    read = contexts.read([WAVE, HOLED, [*WAVE, None, None]], 4)
    with pytest.warns(DataWarning, match="9 values are missing, in 2 of 3 series .b, c.*up to 2 steps") as seen:
        contexts.say_missing(read, ["a", "b", "c"])
    assert seen[0].filename == __file__  # the caller's own line


@pytest.mark.parametrize(
    ("values", "taken_off"),
    [
        (WAVE, False),
        (64_250 + 40 * np.sin(np.arange(50)), False),
        (np.zeros(50), False),
        (np.full(50, 7.0), False),
        (np.full(50, 5e-324), False),
        (1.7e9 + 50 * np.sin(np.arange(50)), True),
        (np.full(50, -1e9), True),
        (1e36 * (1 + 0.1 * np.sin(np.arange(50))), True),
        (1e38 * np.sin(np.arange(50)), True),
    ],
    ids=["wave", "prices", "zeros", "constant", "denormal", "counter", "high constant", "huge", "largest"],
)
def test_a_level_is_taken_off_only_where_float32_loses_the_series(values: np.ndarray, taken_off: bool) -> None:
    values = values[None]
    level = levels.of(values, np.ones_like(values, dtype=bool))
    assert (level is not None) is taken_off
    if level is not None:
        low = level.down(values).astype(np.float32)
        assert np.isfinite(low).all() and np.abs(low).max() < 2.0**42
        assert np.allclose(level.up(low.astype(np.float64)[None])[0], values, rtol=0, atol=1e-4 * (np.ptp(values) + 1))


def test_pandas_with_times_comes_in_their_order() -> None:
    hours = pd.date_range("2024", periods=50, freq="h")
    with pytest.warns(DataWarning, match="sorted, the oldest first"):
        assert contexts.read(pd.Series(WAVE, index=hours)[::-1], 4)[0].values.tolist() == [WAVE.tolist()]
    with pytest.warns(DataWarning, match="runs backwards"):
        contexts.read(pd.Series(WAVE)[::-1], 4)
    with pytest.warns(DataWarning, match="not evenly spaced"):
        contexts.read(pd.Series(WAVE, index=hours).drop(hours[20]), 4)
    with pytest.raises(InputError, match=r"row 1: the time 2024-01-01 00:00:00 occurs twice"):
        contexts.read(pd.Series(WAVE, index=hours[[0, *range(49)]]), 4)


def test_only_the_end_of_a_long_context_is_used() -> None:
    known = {"past_covariates": [WAVE * 2], "future_covariates": [np.ones(4)]}
    (found,) = contexts.read(WAVE, 4, context_length=20, **known)
    assert np.array_equal(found.values, [WAVE[-20:], WAVE[-20:] * 2]) and len(found.seconds) == 20
    assert contexts.read(WAVE, 4, context_length=500)[0].values.shape == (1, 50)


def test_what_has_no_order_or_no_future_is_refused() -> None:
    with pytest.raises(InputError, match="set, not numbers"):
        contexts.read(set(WAVE), 4)
    with pytest.raises(InputError, match=r"Toto 1\.0 takes no covariates that are known for the past only") as refusal:
        contexts.read(WAVE, 4, past_covariates=[WAVE])
    assert "variates=True" in str(refusal.value.hint)
    with pytest.raises(InputError, match="the future has to be known"):
        contexts.read(WAVE, 2, past_covariates=[WAVE], future_covariates=[[1.0, np.nan]])
