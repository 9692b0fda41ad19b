"""Measures of accuracy against sums written out, closed forms, and properties that define them."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from toto_patcher.errors import InputError
from toto_patcher.evidence import metrics

NUMBERS = st.floats(-1e6, 1e6, width=32)
SAMPLES = st.integers(2, 9).flatmap(lambda n: arrays(np.float64, (n, 3), elements=NUMBERS))
ACTUAL = arrays(np.float64, 3, elements=NUMBERS)


def test_point_errors_of_a_forecast_computed_by_hand() -> None:
    samples, actual = np.array([[1.0, 15.0], [2.0, 15.0], [6.0, 30.0]]), np.array([4.0, 20.0])
    # medians 2 and 15: errors 2 and 5; means 3 and 20: errors 1 and 0
    assert metrics.mae(actual, samples) == 3.5
    assert metrics.mape(actual, samples) == pytest.approx((2 / 4 + 5 / 20) / 2)
    assert metrics.rmse(actual, samples) == pytest.approx(math.sqrt(0.5))
    # naive with season 2: |3-1|, |6-2|, |5-3|
    assert metrics.mase(actual, samples, [1.0, 2.0, 3.0, 6.0, 5.0], 2) == pytest.approx(3.5 / (8 / 3))


@given(actual=ACTUAL, samples=SAMPLES)
def test_crps_is_the_double_sum_over_different_samples(actual: np.ndarray, samples: np.ndarray) -> None:
    count = len(samples)
    spread = sum(np.abs(samples[i] - samples[j]) for i in range(count) for j in range(count) if i != j)
    expected = (np.abs(samples - actual).mean(axis=0) - spread / (2 * count * (count - 1))).mean()
    assert metrics.crps(actual, samples) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_crps_of_a_normal_forecast_has_its_closed_form_whatever_the_number_of_samples() -> None:
    draw, z = np.random.default_rng(0), 0.7
    density, below = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), (1 + math.erf(z / math.sqrt(2))) / 2
    closed = z * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi)  # Gneiting and Raftery, equation 21
    for count in (2, 5, 50):
        found = metrics.crps(np.full(60_000, z), draw.standard_normal((count, 60_000)))
        assert found == pytest.approx(closed, abs=0.012)


def test_crps_of_a_forecast_without_spread_is_its_absolute_error() -> None:
    assert metrics.crps([1.0, 5.0], [[3.0, 5.0]] * 4) == 1.0


@given(actual=ACTUAL, samples=SAMPLES, factor=st.sampled_from([0.5, 4.0]), shift=st.integers(-100, 100))
def test_errors_in_the_unit_of_the_series_scale_with_it_and_do_not_see_its_level(
    actual: np.ndarray, samples: np.ndarray, factor: float, shift: int
) -> None:
    for measure in (metrics.mae, metrics.rmse, metrics.crps):
        expected = factor * measure(actual, samples)
        assert measure(factor * actual + shift, factor * samples + shift) == pytest.approx(expected, rel=1e-9, abs=1e-4)


@given(samples=SAMPLES, order=st.randoms())
def test_the_order_of_the_samples_does_not_matter(samples: np.ndarray, order: "np.random.Generator") -> None:
    mixed = list(samples)
    order.shuffle(mixed)
    for measure in (metrics.mae, metrics.rmse, metrics.crps):
        assert measure([0.0, 1.0, 2.0], mixed) == pytest.approx(measure([0.0, 1.0, 2.0], samples), abs=1e-6)


def test_the_seasonal_naive_forecast_has_a_mase_of_one_over_its_own_history() -> None:
    history = np.random.default_rng(1).standard_normal(400).cumsum()
    assert metrics.mase(history[7:], history[None, :-7], history, 7) == pytest.approx(1.0)


@pytest.mark.parametrize("measure", [metrics.mae, metrics.rmse, metrics.mape, metrics.crps])
@pytest.mark.parametrize(
    ("actual", "samples", "message"),
    [
        ([1.0, 2.0], [[1.0, math.nan], [1.0, 1.0]], "samples are not all finite: 1"),
        ([1.0, math.inf], [[1.0, 1.0], [1.0, 1.0]], "values that came are not all finite: 1"),
        ([1.0, 2.0], [1.0, 2.0], r"samples of shape \(2,\)"),
        ([1.0, 2.0], [[1.0], [2.0]], r"samples of shape \(2, 1\)"),
        ([], np.zeros((4, 0)), "expected"),
    ],
)
def test_what_has_no_error_is_refused(
    measure: Callable[..., float], actual: list[float], samples: list[list[float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        measure(actual, samples)


def test_measures_that_are_not_defined_say_so() -> None:
    with pytest.raises(InputError, match="zero"):
        metrics.mape([0.0, 1.0], [[1.0, 1.0]])
    with pytest.raises(InputError, match="two samples"):
        metrics.crps([1.0], [[1.0]])
    with pytest.raises(InputError, match="repeats itself"):
        metrics.mase([1.0], [[1.0]], [3.0, 4.0, 3.0, 4.0], 2)
    with pytest.raises(InputError, match="history of 2 values"):
        metrics.mase([1.0], [[1.0]], [3.0, 4.0], 2)
    with pytest.raises(InputError, match="history has values"):
        metrics.mase([1.0], [[1.0]], [3.0, math.nan, 5.0], 1)
