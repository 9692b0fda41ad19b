"""Checks of the pipeline as in ``pipeline_checks``: what people pass to it, and what it makes of that."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

STEPS = np.arange(500)
WAVE = 100 + 10 * np.sin(STEPS / 5)


def told(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """The result of a call, and what was said about its data."""
    from toto_patcher.runtime.said import DataWarning

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = call()
    return result, [str(each.message) for each in seen if issubclass(each.category, DataWarning)]


def by_hand(bench: Any, values: Any, known: Any, horizon: int, **options: Any) -> Any:
    """Upstream's forecaster, called with values and mask (variates, steps), in the model's dtype."""
    torch = bench.torch
    model = options.pop("pipeline", bench.plain)
    series = torch.tensor(values, dtype=next(model.model.parameters()).dtype)[None]
    zeros = torch.zeros_like(series, dtype=torch.int)
    inputs = bench.tree.series(
        series, torch.tensor(known)[None], zeros, zeros, torch.full(series.shape[:2], 60, dtype=torch.int)
    )
    return model.forecaster.forecast(inputs, horizon, **options)


def the_series_is_wide_until_it_is_scaled(bench: Any) -> None:
    """Against the same model in float64: levels, precisions, lengths that fill no whole patch."""
    wide = bench.pipeline()
    wide.model.double()
    auto = bench.folder / "auto"
    _store_in_bfloat16(bench, auto)
    pipelines = {"float32": bench.pipeline(), "bfloat16": bench.pipeline(torch_dtype="bfloat16")}
    pipelines["auto"] = bench.pipeline(model=auto, torch_dtype="auto")
    assert next(pipelines["auto"].model.parameters()).dtype == bench.torch.bfloat16
    swings = {
        "wave": WAVE,
        "prices": 64_250 + 40 * np.sin(STEPS / 5),
        "counter": 1.7e9 + 50 * np.sin(STEPS / 5),
        "short": (1.7e9 + 50 * np.sin(STEPS / 5))[:77],
        "huge": 1e36 * (1 + 0.1 * np.sin(STEPS / 5)),
        "largest": 1e38 * np.sin(STEPS / 5),
        "high constant": np.full(90, 1.7e9),
        "zeros": np.zeros(90),
        "denormal": np.full(90, 5e-324),
    }
    for name, values in swings.items():
        expected = by_hand(bench, values[None], np.ones((1, len(values)), bool), 8, num_samples=None, pipeline=wide)
        expected = expected.mean[0, 0].numpy()
        for kind, pipeline in pipelines.items():
            drawn = pipeline.predict(values, 8, 512, seed=1)[0].numpy().astype(np.float64)
            assert np.isfinite(drawn).all(), (name, kind)
            error = np.abs(drawn.mean(0) - expected) / (drawn.std(0) + 1e-300)
            assert error.max() < 0.5, (name, kind, error)  # of the samples' spread, of which their mean has a 23rd
            assert drawn.std() > 0
        whole = pipelines["float32"]
        (context,) = _contexts(whole, [values])
        point = whole.forecaster.forecast(whole._inputs([context]), 8, num_samples=None).mean[0].double().numpy()
        point = point if context.level is None else context.level.up(point[None])[0]
        assert np.allclose(point[0], expected, rtol=1e-6, atol=2e-4 * (np.ptp(values) + 1)), name
    tensor = bench.torch.tensor(swings["counter"])
    one, other = (pipelines["float32"].predict(each, 8, 16, seed=1)[0] for each in (tensor, swings["counter"]))
    assert one.samples.dtype == bench.torch.float64 and bench.torch.equal(one.samples, other.samples)
    assert one.quantile([0.1, 0.9]).dtype == bench.torch.float64 and abs(float(one.median[0]) - 1.7e9) < 500


def _contexts(pipeline: Any, series: list[Any]) -> list[Any]:
    from toto_patcher.runtime import contexts

    return contexts.read(series, 8)


def _store_in_bfloat16(bench: Any, folder: Any) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(bench.checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value.bfloat16() for name, value in weights.items()}, folder / "model.safetensors")


def covariates_and_variates_are_wide_too(bench: Any) -> None:
    high = 1.7e9 + 50 * np.sin(STEPS / 5)
    both, _ = told(lambda: bench.plain.predict(np.stack([high, WAVE]), 8, 512, variates=True, seed=1))
    middle = both[0].median.numpy()
    assert abs(middle[0].mean() - 1.7e9) < 500 and abs(middle[1].mean() - 100) < 100
    future = 1.7e9 + 50 * np.sin(np.arange(500, 540) / 5)  # more than a patch: the first is read for the second
    cut = slice(500 % 32, None)  # whole patches: the model also looks at what is filled in at the left
    low, top = (
        bench.plain.predict(WAVE[cut], 40, 64, seed=1, past_covariates=[past[cut]], future_covariates=[ahead])
        for past, ahead in ((high - 1.7e9, future - 1.7e9), (high, future))
    )
    assert np.allclose(low[0].numpy(), top[0].numpy(), rtol=1e-3, atol=0.05)


def a_high_series_changes_no_other(bench: Any) -> None:
    """Whole patches are then filled up by the pipeline instead of upstream, with the same zeros."""
    high = 1.7e9 + 50 * np.sin(STEPS / 5)
    beside, alone = (
        bench.plain.forecaster.forecast(bench.plain._inputs(_contexts(bench.plain, [WAVE, other])), 40).mean[0]
        for other in (high, WAVE * 2)
    )
    assert bench.torch.equal(beside, alone)
    assert [one.samples.dtype.itemsize for one in bench.plain.predict([WAVE, high], 8, 4)] == [4, 8]


def missing_values_are_masked_as_upstream_masks_them(bench: Any) -> None:
    holed = WAVE.copy()
    holed[[7, 50, 51, 52, 200]] = np.nan
    known = ~np.isnan(holed)
    filled = np.interp(STEPS, STEPS[known], holed[known])
    bench.torch.manual_seed(3)
    expected = by_hand(bench, filled[None], known[None], 40, num_samples=16, samples_per_batch=16)
    found, said = told(lambda: bench.plain.predict(holed, 40, 16, 16, seed=3))
    assert bench.torch.equal(found[0].samples, expected.samples[0, 0].T)
    assert said == ["5 values are missing, in 1 of 1 series (series 0): masked"]
    # Whatever they come in, beside whole series, and the whole ones are as they are without them.
    masked = np.ma.masked_array(WAVE, mask=~known)
    mixed, said = told(lambda: bench.plain.predict([masked, WAVE], 8, 16, seed=1))
    alone, nothing = told(lambda: bench.plain.predict([WAVE, WAVE], 8, 16, seed=1))
    assert bench.torch.equal(mixed[1].samples, alone[1].samples) and len(said) == 1 and not nothing
    # At the left the series begins later; at the right what is missing is forecast.
    padded = np.concatenate([np.full(30, np.nan), WAVE])
    early, _ = told(lambda: bench.plain.predict(padded, 8, 16, seed=1)[0])
    assert bench.torch.equal(early.samples, bench.plain.predict(WAVE, 8, 16, seed=1)[0].samples)
    late, said = told(lambda: bench.plain.predict([*WAVE, np.nan, np.nan, np.nan], 8, 16, seed=1)[0])
    assert bench.torch.equal(late.samples, bench.plain.predict(WAVE, 11, 16, seed=1)[0].samples[:, 3:])
    assert "up to 3 steps are missing, and are forecast as well" in said[0]
    # And a gap costs little: the forecast is near that of the whole series.
    whole = bench.plain.predict(WAVE, 8, 256, seed=1)[0]
    gapped, _ = told(lambda: bench.plain.predict(holed, 8, 256, seed=1)[0])
    assert float((gapped.median - whole.median).abs().mean() / whole.std.mean()) < 0.3


def only_the_end_of_the_context(bench: Any) -> None:
    short = bench.plain.predict(WAVE, 8, 16, seed=1, context_length=100)[0]
    assert bench.torch.equal(short.samples, bench.plain.predict(WAVE[-100:], 8, 16, seed=1)[0].samples)


def tables_are_used_rightly_or_refused(bench: Any) -> None:
    import pandas as pd

    from tests.runtime.pipeline_checks import refused

    hours = pd.date_range("2024-01-01", periods=100, freq="h")
    values = WAVE[:100]

    def table(times: Any, target: Any = values, key: Any = "a", **more: Any) -> Any:
        return pd.DataFrame({"item_id": key, "timestamp": times, "target": target, **more})

    def forecast(frame: Any, **options: Any) -> Any:
        options = {"prediction_length": 2, "num_samples": 8, "seed": 1, **options}
        return bench.plain.predict_df(frame, **options)

    plain = forecast(table(hours))
    same = {
        "newest first": table(hours[::-1], values[::-1]),
        "text": table([str(hour) for hour in hours]),
        "text, shuffled": table([str(hour) for hour in hours]).sample(frac=1, random_state=1),
        "text of the month": table(hours.strftime("%d %b %Y %H:%M")),
        "nullable": table(hours, pd.array(values, dtype="Float64")),
        "objects": table(hours, values.astype(object)),
        "rows of one label": table(hours).set_index(np.zeros(100, int)),
    }
    for name, frame in same.items():
        pd.testing.assert_frame_equal(forecast(frame), plain, obj=name)
    # Ids: none of them is lost, and none is made up.
    both = pd.concat([table(hours, key=key) for key in "abc"])
    both["item_id"] = both["item_id"].astype("category")
    for freq in (None, "h"):
        left = forecast(both[both["item_id"] != "b"], freq=freq)
        assert list(left["item_id"].unique()) == ["a", "c"] and left["item_id"].dtype == both["item_id"].dtype
    for missing in (None, np.nan, pd.NA):
        frame = pd.concat([table(hours), table(hours, key=missing)], ignore_index=True)
        refused("100 of 200 rows of df have no item_id, the first is row 100", lambda frame=frame: forecast(frame))
        rest, said = told(lambda frame=frame: forecast(frame, on_error="skip"))
        assert len(rest) == 2 and "(no id)" in rest.attrs["errors"] and "1 series cannot be forecast" in said[-1]
    text = pd.concat([table(hours[:count], values[:count], f"{count:03d}") for count in (60, 100, 33)])
    text["item_id"] = text["item_id"].astype("string")
    found = forecast(text.sample(frac=1, random_state=1)).groupby("item_id")["timestamp"].min()
    assert all(found[f"{count:03d}"] == hours[count - 1] + pd.Timedelta("1h") for count in (60, 100, 33))
    # Numbers as times, and freq, which hides nothing.
    seconds = hours.as_unit("s").asi8
    assert list(forecast(table(seconds))["timestamp"]) == [seconds[-1] + 3600, seconds[-1] + 7200]
    hole = np.r_[0:50, 80:100]
    refused("its timestamps are not regular", lambda: forecast(table(hours[hole], values[hole])))
    refused("freq='D'", lambda: forecast(table(hours), freq="D"))
    refused("freq is 'fortnight'", lambda: forecast(table(hours), freq="fortnight", on_error="skip"))
    holed, said = told(lambda: forecast(table(hours[hole], values[hole]), freq="h"))
    assert "rows are missing between others, 30 in all" in said[0] and "30 values are missing" in said[1]
    gaps = values.copy()
    gaps[50:80] = np.nan
    filled, _ = told(lambda: forecast(table(hours, gaps)))
    pd.testing.assert_frame_equal(holed, filled)
    # One bad series never fails the others.
    bad = {"x": table(hours, values * np.nan), "y": table(hours[hole], values[hole]), "z": table(hours, "12,5")}
    frame = pd.concat([table(hours), *[part.assign(item_id=key) for key, part in bad.items()]], ignore_index=True)
    refused("item_id 'x': all 100 values are missing", lambda: forecast(frame))
    rest, _ = told(lambda: forecast(frame, on_error="skip"))
    pd.testing.assert_frame_equal(rest, plain)
    assert list(rest.attrs["errors"]) == ["x", "y", "z"] and "'12,5'" in rest.attrs["errors"]["z"]
    rest.to_parquet(bench.folder / "rest.parquet")  # which keeps attrs as JSON
    none, _ = told(lambda: forecast(frame[frame["item_id"] == "x"], on_error="skip"))
    assert none.empty and list(none.columns) == list(plain.columns)
    refused("on_error is 'ignore'", lambda: forecast(frame, on_error="ignore"))
    # Covariates: for the past only they are of no use, and that is said.
    _, said = told(lambda: forecast(table(hours, load=1.0)))
    assert "not used: load" in said[0] and "Toto 1.0" in said[0]
    for steps in (1, 2):
        times = pd.date_range(hours[-1], periods=steps + 1, freq="h")[1:]
        future = pd.DataFrame({"item_id": "a", "timestamp": [str(time) for time in times], "promo": 1.0})
        got, said = told(
            lambda future=future, steps=steps: forecast(
                table(hours, promo=0.0), future_df=future, prediction_length=steps
            )
        )
        assert list(got["timestamp"]) == list(times) and not said
    refused(
        "the future has to be known", lambda: forecast(table(hours, promo=0.0), future_df=future.assign(promo=None))
    )
    late = values.copy()
    late[-1] = np.nan
    got, said = told(lambda: forecast(table(hours, late, promo=0.0), future_df=future))
    assert list(got["timestamp"]) == list(times) and "1 steps are missing" in said[0]


CHECKS = (
    the_series_is_wide_until_it_is_scaled,
    covariates_and_variates_are_wide_too,
    a_high_series_changes_no_other,
    missing_values_are_masked_as_upstream_masks_them,
    only_the_end_of_the_context,
    tables_are_used_rightly_or_refused,
)
