"""The judgement of accuracy on synthetic forecasts: what passes, what fails, and how often by chance."""

from collections.abc import Mapping

import numpy as np
import pytest

from toto_patcher.errors import InputError
from toto_patcher.evidence import accuracy_judgement as judgement
from toto_patcher.evidence import accuracy_windows as windows
from toto_patcher.evidence.accuracy_windows import MEASURES
from toto_patcher.evidence.series import Series

HORIZON, ORIGINS, SEEDS, SAMPLES = 16, 4, 8, 64
NAMES = ("one", "two", "three")
Errors = Mapping[str, np.ndarray]


def cut_all(zero: bool = False) -> list[windows.Window]:
    """Windows of three random walks with a season, far from zero but for one value of the last."""
    draw, found = np.random.default_rng(3), []
    for level, name in enumerate(NAMES, start=1):
        steps = np.arange(400)
        values = (100 * level + draw.standard_normal(400).cumsum() + 4 * np.sin(steps / 3)).astype(np.float32)
        if zero and name == "three":
            values[-1] = 0.0
        found += windows.cut(Series(name, values, 1, 60, "made here", "other"), HORIZON, 128, ORIGINS)
    return found


CUT = cut_all()


def forecasts(seed: int, *, bias: float = 0.0, scale: float = 1.0, shift: int = 0) -> list[np.ndarray]:
    """Heavy-tailed walks from the last value, with the season; (seeds, samples, horizon) for each window."""
    draw, found = np.random.default_rng(seed), []
    for window in CUT:
        walk = draw.standard_t(4, size=(SEEDS, SAMPLES, HORIZON + 1)).cumsum(axis=-1)
        season = 4 * np.sin((window.origin + np.arange(HORIZON + 1)) / 3)
        path = window.context[-1] - season[0] + season + 0.7 * scale * walk + bias * walk.std(axis=(0, 1))
        found.append(path[..., shift : HORIZON + shift].astype(np.float32))
    return found


def judge(candidate: list[np.ndarray], seed: int = 1) -> judgement.Judgement:
    names = [window.series.name for window in CUT]
    return judgement.judge(windows.errors(CUT, forecasts(seed)), windows.errors(CUT, candidate), names)


def outside(found: judgement.Judgement) -> set[str]:
    return {finding.measure for finding in found.findings if finding.outside}


def test_another_draw_of_the_same_distribution_is_inside() -> None:
    found = judge(forecasts(2))
    assert found.passed and found.p_value > 0.01 and outside(found) == set()
    assert {(finding.scope, finding.measure) for finding in found.findings} == {
        (scope, measure) for scope in (*NAMES, judgement.OVERALL) for measure in MEASURES
    }
    for finding in found.findings:
        assert finding.delta.low < finding.delta.value < finding.delta.high
        assert abs(finding.delta.value) < finding.bound and finding.spread > 0
        assert (finding.upstream is None) == (finding.scope == judgement.OVERALL)


def test_the_same_samples_differ_by_nothing() -> None:
    found = judge(forecasts(1))
    assert found.passed and found.p_value == 1.0
    assert all((f.delta.low, f.delta.value, f.delta.high) == (0.0, 0.0, 0.0) for f in found.findings)


@pytest.mark.parametrize(
    ("fault", "measures"),
    [
        ({"bias": 0.3}, {"mae", "mase", "crps"}),
        ({"bias": -0.3}, {"mae", "mase", "crps"}),
        ({"scale": 2.0}, {"crps"}),
        ({"scale": 0.5}, {"crps"}),
        ({"shift": 1}, {"mae", "mase", "crps"}),
    ],
)
def test_a_planted_loss_is_outside_and_the_measure_is_named(fault: dict[str, float], measures: set[str]) -> None:
    found = judge(forecasts(2, **fault))  # type: ignore[arg-type]
    assert not found.passed and found.p_value <= judgement.LEVEL
    assert measures <= outside(found)


def test_what_is_too_good_is_outside_too() -> None:
    draw = np.random.default_rng(7)
    found = judgement.judge({"mae": draw.normal(10, 0.1, (12, 8))}, {"mae": draw.normal(9.8, 0.1, (12, 8))}, ["a"] * 12)
    assert "mean" in found.findings[0].outside and found.findings[0].delta.value < 0


def test_errors_that_grow_here_and_shrink_there_are_found_though_their_mean_stays() -> None:
    draw = np.random.default_rng(4)
    upstream, candidate = (draw.normal(10.0, 0.1, size=(12, SEEDS)) for _ in range(2))
    candidate += np.where(np.arange(12) % 2, 0.5, -0.5)[:, None]
    found = judgement.judge({"mae": upstream}, {"mae": candidate}, ["a"] * 12)
    one, overall = found.findings
    assert one.outside == overall.outside == ("windows",) and abs(overall.delta.value) < overall.bound


def test_chance_ends_outside_as_rarely_as_the_level_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgement, "EXCHANGES", 400)
    monkeypatch.setattr(judgement, "_RESAMPLES", 2)
    draw, names = np.random.default_rng(5), ["a"] * 3 + ["b"] * 3

    def errors() -> Errors:
        shared = draw.lognormal(0.0, 0.3, size=(6, 4))
        return {"mae": shared, "crps": shared + draw.normal(5.0, 0.2, size=(6, 4))}

    # Errors of the two measures hang together as real ones do; only their sides are independent.
    found = [judgement.judge(errors(), errors(), names, level=0.05, seed=run) for run in range(300)]
    wrong = sum(not one.passed for one in found)
    assert 3 <= wrong <= 32  # binomial with 300 and 0.05: beyond these once in ten thousand
    assert 0.42 < np.mean([one.p_value for one in found]) < 0.58


def test_exchanges_are_all_ways_to_share_out_and_their_variance_is_the_formula() -> None:
    values = np.random.default_rng(6).standard_normal((2, 6))
    tests = judgement._Tests(values, {"a": np.array([True, True])})
    ways = judgement._arrangements(3, np.random.default_rng(0))
    assert len(ways) == 20 and np.allclose(ways.sum(axis=1), 0)
    assert np.allclose((ways @ values.T).var(axis=0), tests.variances)
    assert np.allclose(ways[-1] @ values.T, tests.differences()) or np.allclose(
        ways[0] @ values.T, -tests.differences()
    )


def test_a_measure_that_is_not_defined_for_a_series_is_left_out_there() -> None:
    cut = cut_all(zero=True)
    upstream, candidate = windows.errors(cut, forecasts(1)), windows.errors(cut, forecasts(2))
    found = judgement.judge(upstream, candidate, [window.series.name for window in cut])
    assert ("three", "mape") not in {(finding.scope, finding.measure) for finding in found.findings}
    (overall,) = [one for one in found.findings if (one.scope, one.measure) == (judgement.OVERALL, "mape")]
    assert overall.windows == 8 and np.isfinite(overall.delta.value)


def test_too_few_forecasts_to_tell_anything_are_refused() -> None:
    assert not judgement.can_tell(1, 8) and judgement.can_tell(2, 8) and not judgement.can_tell(3, 3)
    with pytest.raises(InputError, match="1 windows under 4 seeds are too few"):
        judgement.judge({"mae": np.ones((1, 4))}, {"mae": np.ones((1, 4))}, ["a"])
    with pytest.raises(InputError, match="shape"):
        judgement.judge({"mae": np.ones((2, 4))}, {"mae": np.ones((2, 3))}, ["a", "a"])


def test_windows_end_with_the_series_do_not_overlap_and_know_nothing_of_what_comes() -> None:
    values = np.arange(100, dtype=np.float32) ** 2
    found = windows.cut(Series("s", values, 2, 60, "", "other"), 8, 50, 3)
    assert np.concatenate([window.actual for window in found]).tolist() == values[76:].tolist()
    for window in found:
        assert window.history.tolist() == values[: window.origin].tolist()
        assert window.context.tolist() == values[window.origin - 50 : window.origin].tolist()


def test_a_short_series_gets_a_shorter_context_and_too_short_a_one_is_refused() -> None:
    values = np.arange(100, dtype=np.float32) ** 2
    assert len(windows.cut(Series("s", values, 1, 60, "", "other"), 8, 512, 4)[0].context) == 68
    with pytest.raises(InputError, match="s has 100 values: too short for 5 origins 8 steps apart"):
        windows.cut(Series("s", values, 1, 60, "", "other"), 8, 512, 5)
    with pytest.raises(InputError, match="repeats itself"):
        windows.cut(Series("s", np.ones(100, np.float32), 1, 60, "", "other"), 8, 64, 2)


def test_errors_of_a_window_are_those_of_the_metrics() -> None:
    from toto_patcher.evidence import metrics

    drawn, last = forecasts(1), CUT[-1]
    found = windows.errors(CUT, drawn)
    for measure in ("mae", "rmse", "mape", "crps"):
        assert found[measure][-1, 3] == getattr(metrics, measure)(last.actual, drawn[-1][3])
    assert found["mase"][-1, 3] == pytest.approx(metrics.mase(last.actual, drawn[-1][3], last.history, 1))
