"""Run in a process of its own on one tree: checks of the pipeline, by name, with what went wrong as JSON on stdout.

    python -m tests.runtime.pipeline_checks NAME ROOT FOLDER

The model is the tree's own Toto with the tiny checkpoint, which is made in FOLDER.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.runtime import data_checks, process_checks

CHECKS: dict[str, Callable[[Bench], None]] = {}
ONE = ("full-graph",)
ON: dict[str, tuple[str, ...]] = {
    "bad_input_is_named": ONE,
    "bad_settings_are_named": ONE,
    "bad_checkpoints_are_named": ONE,
    "quantiles_in_chronos_shapes": ONE,
    "a_table_as_chronos_takes_it": ONE,
    "tables_are_used_rightly_or_refused": ONE,
    "the_series_is_wide_until_it_is_scaled": ONE,
    "compiling_after_the_warm_up_is_counted_by_call": ONE,  # the others' shapes have become dynamic by then
    "a_bar_where_it_is_wanted": ONE,
    "without_a_compiler_it_forecasts_eagerly": ("full-graph", "unpatched"),
    "an_error_of_the_forecast_itself_leaves_it_compiled": ONE,
}
"""Trees that a check runs on, where it is not all."""
WAVE = np.sin(np.arange(100) / 5) + 3


class Bench:
    """The tree, its checkpoint, and pipelines on it."""

    def __init__(self, root: Path, folder: Path) -> None:
        import torch

        from toto_patcher.equivalence.models import TINY, write_checkpoint
        from toto_patcher.runtime import TotoPipeline, vendored

        torch.set_num_threads(1)
        self.torch, self.TotoPipeline, self.root, self.folder = torch, TotoPipeline, root, folder
        self.tree = vendored.load(root)
        state = self.tree.model(**TINY.config(), use_memory_efficient_attention=False).state_dict()
        self.checkpoint = folder / "tiny"
        self.checkpoint.mkdir()
        write_checkpoint(TINY, {name: tuple(value.shape) for name, value in state.items()}, self.checkpoint)
        self.plain = self.pipeline()
        self.records: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = self.records.append  # type: ignore[method-assign]
        logging.getLogger("toto_patcher").addHandler(handler)

    def pipeline(self, **options: Any) -> Any:
        options = {"device_map": "cpu", "torch_compile": False, "root": self.root, **options}
        return self.TotoPipeline.from_pretrained(options.pop("model", self.checkpoint), **options)

    def warnings(self, text: str) -> list[str]:
        return [record.getMessage() for record in self.records if text in record.getMessage()]

    @contextlib.contextmanager
    def calls(self, pipeline: Any, fails: Callable[[int], Exception | None] = lambda rows: None) -> Iterator[list[Any]]:
        """The calls of the real forecaster: (series' shape, samples, samples at once). Some can be made to fail."""
        forecaster = pipeline.forecaster
        real, seen = forecaster.forecast, []

        def forecast(inputs: Any, horizon: int, *, num_samples: int, samples_per_batch: int, **more: Any) -> Any:
            at_once = num_samples if pipeline.profile == "full-graph" else samples_per_batch
            seen.append((tuple(inputs.series.shape), num_samples, samples_per_batch))
            if error := fails(at_once * len(inputs.series)):
                raise error
            return real(inputs, horizon, num_samples=num_samples, samples_per_batch=samples_per_batch, **more)

        forecaster.forecast = forecast
        try:
            yield seen
        finally:
            del forecaster.forecast


def check(function: Callable[[Bench], None]) -> Callable[[Bench], None]:
    CHECKS[function.__name__] = function
    return function


def refused(text: str, call: Callable[[], Any], kind: str = "InputError") -> None:
    """Fails unless the call is refused with an error of this kind that says this."""
    try:
        call()
    except Exception as error:
        assert type(error).__name__ == kind, f"{type(error).__name__}: {error}"
        assert text in str(error), str(error)
    else:
        raise AssertionError(f"nobody refused: {text}")


@check
def the_issues_call(bench: Bench) -> None:
    forecast = bench.plain.predict(
        context=bench.torch.tensor(WAVE), prediction_length=8, num_samples=96, samples_per_batch=32
    )
    assert forecast[0].numpy().shape == (96, 8) == tuple(forecast[0].samples.shape)
    assert np.isfinite(forecast[0].numpy()).all()
    assert not bench.plain.compiled and bench.plain.mode is None and str(bench.plain.device) == "cpu"


@check
def every_kind_of_input_gives_the_same(bench: Bench) -> None:
    import pandas as pd

    torch, wave = bench.torch, WAVE.astype(np.float32)
    kinds = [wave, WAVE, wave.tolist(), tuple(wave.tolist()), torch.tensor(wave), pd.Series(wave), [wave], wave[None]]
    kinds += [[wave.tolist()], [torch.tensor(wave)], pd.DataFrame({"a": wave})["a"], pd.DataFrame({"a": wave})]
    kinds.append(pd.Series(wave, index=pd.date_range("2020", periods=len(wave), freq="h")))
    expected = bench.plain.predict(wave, 5, 16, seed=3)[0].numpy()
    for kind in kinds:
        found = bench.plain.predict(kind, 5, 16, seed=3)
        assert len(found) == 1, type(kind)
        assert np.array_equal(found[0].numpy(), expected), type(kind)
    assert len(bench.plain.predict(np.stack([wave, wave]), 5, 4)) == 2
    assert len(bench.plain.predict(pd.DataFrame({"a": wave, "b": wave}), 5, 4)) == 2
    integers = bench.plain.predict(list(range(40)), 5, 4, seed=1)[0].numpy()
    assert np.array_equal(integers, bench.plain.predict(np.arange(40.0), 5, 4, seed=1)[0].numpy())


@check
def unequal_series_are_grouped_and_never_padded(bench: Bench) -> None:
    series = [WAVE, WAVE[:50] + 1000, WAVE + 2000, WAVE[:50] + 3000, WAVE[:7] + 4000]
    with bench.calls(bench.plain) as calls:
        found = bench.plain.predict(series, 20, 32)
    assert sorted(shape for shape, *_ in calls) == [(1, 1, 7), (2, 1, 50), (2, 1, 100)]
    levels = [float(forecast.median.median()) for forecast in found]
    assert np.allclose(levels[:4], [0, 1000, 2000, 3000], atol=200), levels


@check
def many_series_go_in_bounded_batches(bench: Bench) -> None:
    with bench.calls(bench.plain) as calls:
        found = bench.plain.predict([WAVE[:20] + 100 * index for index in range(70)], 3, 2)
    assert [shape[0] for shape, *_ in calls] == [32, 32, 6]
    assert np.allclose([float(one.mean.mean()) for one in found], np.arange(70) * 100, atol=60)


@check
def a_series_in_a_batch_gets_what_it_gets_alone(bench: Bench) -> None:
    """By the mean of the model's distribution, which no random numbers touch; and the samples stay apart."""
    from toto_patcher.runtime import contexts

    series = contexts.read([WAVE, WAVE[::-1] * 3, WAVE**2], 40)
    forecaster = bench.plain.forecaster
    together = forecaster.forecast(bench.plain._inputs(series), 40, num_samples=None).mean
    for index, one in enumerate(series):
        alone = forecaster.forecast(bench.plain._inputs([one]), 40, num_samples=None).mean
        assert bench.torch.allclose(together[index : index + 1], alone, rtol=1e-5, atol=1e-5)
    drawn = bench.plain.predict([WAVE, WAVE[::-1] * 3, WAVE**2], 16, 512, seed=1)
    for one, alone in zip(drawn, [WAVE, WAVE[::-1] * 3, WAVE**2], strict=True):
        other = bench.plain.predict(alone, 16, 512, seed=2)[0]
        middle = one.quantile([0.25, 0.5, 0.75]) - other.quantile([0.25, 0.5, 0.75])
        assert float(middle.abs().mean() / other.std.mean()) < 0.12


@check
def variates_are_forecast_jointly(bench: Bench) -> None:
    both = np.stack([WAVE, WAVE[::-1] * 5])
    found = bench.plain.predict(both, 20, 16, variates=True, seed=5)[0]
    assert found.numpy().shape == (16, 2, 20) and found.mean.shape == (2, 20)
    assert found.quantile([0.1, 0.9]).shape == (2, 2, 20)
    many = bench.plain.predict([both, both[:, :30], np.stack([*both, WAVE])], 20, 16, variates=True)
    assert [one.numpy().shape for one in many] == [(16, 2, 20), (16, 2, 20), (16, 3, 20)]
    apart = bench.plain.predict([both, both + 1000], 8, 16, variates=True)
    assert [round(float(one.median.mean()) / 1000) for one in apart] == [0, 1]
    import pandas as pd

    table = pd.DataFrame(both.T, columns=["a", "b"])
    assert np.array_equal(bench.plain.predict(table, 20, 16, variates=True, seed=5)[0].numpy(), found.numpy())
    # Joint: what the second variate was changes the first.
    other = bench.plain.predict(np.stack([WAVE, WAVE * 0.5]), 20, 16, variates=True, seed=5)[0]
    assert not np.allclose(other.numpy()[:, 0], found.numpy()[:, 0])


@check
def known_covariates_are_used(bench: Bench) -> None:
    torch = bench.torch
    given = {"past_covariates": [[WAVE * 2]], "future_covariates": [[np.full(40, 6.0)]]}
    found = bench.plain.predict(WAVE, 40, 16, 16, seed=4, **given)[0]
    assert found.numpy().shape == (16, 40)
    named = {"past_covariates": {"load": WAVE * 2}, "future_covariates": {"load": np.full(40, 6.0)}}
    assert torch.equal(bench.plain.predict(WAVE, 40, 16, 16, seed=4, **named)[0].samples, found.samples)
    given["future_covariates"] = [[np.full(40, -50.0)]]
    assert not torch.allclose(bench.plain.predict(WAVE, 40, 16, 16, seed=4, **given)[0].samples, found.samples)
    # As upstream is called by hand.
    values = torch.tensor(np.stack([WAVE, WAVE * 2]), dtype=torch.float32)[None]
    inputs = bench.tree.series(
        series=values,
        padding_mask=torch.ones_like(values, dtype=torch.bool),
        id_mask=torch.zeros_like(values, dtype=torch.int),
        timestamp_seconds=torch.zeros_like(values, dtype=torch.int),
        time_interval_seconds=torch.full((1, 2), 60),
        num_exogenous_variables=1,
    )
    torch.manual_seed(4)
    by_hand = bench.plain.forecaster.forecast(
        inputs, 40, num_samples=16, samples_per_batch=16, future_exogenous_variables=torch.full((1, 1, 40), 6.0)
    )
    assert torch.equal(by_hand.samples[0, 0].T, found.samples)
    refused("future_covariates", lambda: bench.plain.predict(WAVE, 40, 4, past_covariates=[WAVE]))
    refused("(covariates, 40)", lambda: bench.plain.predict(WAVE, 40, 4, past_covariates=WAVE, future_covariates=WAVE))


@check
def a_seed_repeats_and_disturbs_nobody(bench: Bench) -> None:
    torch = bench.torch
    before = torch.get_rng_state()
    first = bench.plain.predict([WAVE, WAVE[:40]], 20, 16, seed=9)
    again = bench.plain.predict([WAVE, WAVE[:40]], 20, 16, seed=9)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one.samples, two.samples) for one, two in zip(first, again, strict=True))
    other = bench.plain.predict([WAVE, WAVE[:40]], 20, 16, seed=10)
    free = [bench.plain.predict(WAVE, 20, 16)[0].samples for _ in range(2)]
    assert not torch.equal(first[0].samples, other[0].samples) and not torch.equal(*free)
    same = bench.plain.predict([WAVE[:20]] * 64, 3, 2, seed=9)  # two batches, each with random numbers of its own
    assert not np.allclose(same[0].numpy(), same[32].numpy())


@check
def any_number_of_samples(bench: Bench) -> None:
    for count, batch in ((1, 32), (33, 32), (100, 32), (100, 1000), (7, None)):
        with bench.calls(bench.plain) as calls:
            assert bench.plain.predict(WAVE, 5, count, batch)[0].numpy().shape == (count, 5)
        (_, drawn, at_once), *more = calls
        assert not more and count <= drawn < count + 8 and drawn % at_once == 0 and at_once <= (batch or count)


@check
def less_memory_means_smaller_batches(bench: Bench) -> None:
    torch, pipeline = bench.torch, bench.pipeline()
    bench.records.clear()

    def fails(rows: int) -> Exception | None:
        return torch.OutOfMemoryError("planted") if rows > 40 else None

    with bench.calls(pipeline, fails) as calls:
        first = pipeline.predict(WAVE, 5, 200, 128, seed=1)[0]
        tried = len(calls)
        second = pipeline.predict(WAVE, 5, 200, 128, seed=1)[0]
        assert fails(calls[-1][1] if pipeline.profile == "full-graph" else calls[-1][2]) is None
    sizes = 4 if pipeline.profile == "full-graph" else 3  # from 200 to 25, or from 128 to 32
    assert pipeline.samples_limit == (25 if pipeline.profile == "full-graph" else 32)
    assert len(calls) == 2 * tried - (sizes - 1)  # the second knew
    assert first.numpy().shape == (200, 5) and np.isfinite(first.numpy()).all()
    assert torch.equal(first.samples, second.samples)
    assert len(bench.warnings("out of memory")) == 1
    text = bench.pipeline()
    with bench.calls(text, lambda rows: RuntimeError("CUDA error: out of memory") if rows > 40 else None):
        assert text.predict(WAVE, 5, 64, 64)[0].numpy().shape == (64, 5)
    assert text.samples_limit == 32


@check
def memory_that_never_suffices_is_an_error(bench: Bench) -> None:
    kind = "OutOfMemoryError"
    few, short = bench.pipeline(min_samples_per_batch=16), bench.pipeline(max_oom_retries=1)
    for pipeline, expected in ((few, [64, 32, 16]), (short, [64, 32])):
        with bench.calls(pipeline, lambda rows: bench.torch.OutOfMemoryError("planted")) as calls:
            refused("planted", lambda pipeline=pipeline: pipeline.predict(WAVE, 5, 64, 64), kind)
        assert [call[1] if pipeline.profile == "full-graph" else call[2] for call in calls] == expected
    with bench.calls(bench.plain, lambda rows: RuntimeError("something else")) as calls:
        refused("something else", lambda: bench.plain.predict(WAVE, 5, 64, 64), "RuntimeError")
    assert len(calls) == 1


@check
def threads_wait_in_line(bench: Bench) -> None:
    expected = [bench.plain.predict(WAVE, 20, 16, seed=seed)[0].samples for seed in range(4)]
    found: dict[int, Any] = {}

    def work(seed: int) -> None:
        for _ in range(3):
            found[seed] = bench.plain.predict(WAVE, 20, 16, seed=seed)[0].samples

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(bench.torch.equal(found[seed], expected[seed]) for seed in range(4))


@check
def bad_input_is_named(bench: Bench) -> None:
    predict = bench.plain.predict
    hole = WAVE.copy()
    hole[[3, 5]] = np.nan, np.inf
    refused("series 0: 1 of 100 values are not finite, the first is inf at step 5", lambda: predict(hole, 5))
    refused("series 1: 1 of 100", lambda: predict([WAVE, hole], 5))
    refused("at step 5 of variate 1", lambda: predict([[WAVE, hole]], 5, variates=True))
    refused("all 100 values are missing: there is nothing to forecast from", lambda: predict(WAVE * np.nan, 5))
    nothing = np.stack([WAVE, WAVE * np.nan])
    refused("variate 1: all 100 values are missing", lambda: predict(nothing, 5, variates=True))
    refused("too large for the model", lambda: predict([1.0, 1e39], 5))
    refused("series 0: is empty", lambda: predict([], 5))
    refused("series 1: is empty", lambda: predict([WAVE, []], 5))
    refused("shape (2, 2, 100), expected (steps,)", lambda: predict(np.stack([[WAVE, WAVE]] * 2), 5))
    refused("expected 1-D", lambda: predict([np.stack([WAVE, WAVE])], 5))
    refused("shape (100,), expected (variates, steps)", lambda: predict(WAVE, 5, variates=True))
    refused("not numbers", lambda: predict("prices.csv", 5))
    refused("holds <U1, not numbers", lambda: predict(["a", "b"], 5))
    refused("not an array of numbers", lambda: predict([1.0, None, "x"], 5))
    refused("NoneType", lambda: predict(None, 5))
    for horizon in (0, -1, 2.5, True, "8"):
        refused("prediction_length is", lambda horizon=horizon: predict(WAVE, horizon))
    refused("num_samples is 0", lambda: predict(WAVE, 5, 0))
    refused("samples_per_batch is 0", lambda: predict(WAVE, 5, 8, 0))
    refused("seed is 'x'", lambda: predict(WAVE, 5, 8, seed="x"))
    refused("levels of quantiles", lambda: bench.plain.predict_quantiles(WAVE, 5, [1.5]))
    refused("interval_seconds", lambda: predict(WAVE, 5, 4, interval_seconds=0))


@check
def bad_settings_are_named(bench: Bench) -> None:
    refused("unknown device 'tpus'", lambda: bench.pipeline(device_map="tpus"))
    refused("Toto does not run on the device 'meta'", lambda: bench.pipeline(device_map="meta"))
    refused("there is no device 'cuda:99'", lambda: bench.pipeline(device_map="cuda:99"))
    refused("torch_dtype is 'int8'", lambda: bench.pipeline(torch_dtype="int8"))
    refused("amp_dtype is 'auto'", lambda: bench.pipeline(amp_dtype="auto"))
    refused("mode", lambda: bench.pipeline(torch_compile=True, compile_mode="fastest"))
    refused("backend", lambda: bench.pipeline(torch_compile=True, compile_backend="nothing"))
    refused("min_samples_per_batch is 0", lambda: bench.pipeline(min_samples_per_batch=0))


@check
def bad_checkpoints_are_named(bench: Bench) -> None:
    kind = "CheckpointError"
    refused("there is no folder", lambda: bench.pipeline(model=bench.folder / "none"), kind)
    refused("there is no folder", lambda: bench.pipeline(model="./none/at/all"), kind)
    refused(
        "cannot be fetched", lambda: bench.pipeline(model="Datadog/Toto-Open-Base-1.0", local_files_only=True), kind
    )
    refused("hub/x", lambda: bench.pipeline(model="hub/x", local_files_only=True, cache_dir=bench.folder), kind)

    def changed(name: str, change: Callable[[Path], Any]) -> Path:
        folder = bench.folder / name
        shutil.copytree(bench.checkpoint, folder)
        change(folder)
        return folder

    def configure(**values: Any) -> Callable[[Path], Any]:
        config = json.loads((bench.checkpoint / "config.json").read_text()) | values
        return lambda folder: (folder / "config.json").write_text(json.dumps(config))

    cases = {
        "model.safetensors: is missing": lambda folder: (folder / "model.safetensors").unlink(),
        "config.json: is missing": lambda folder: (folder / "config.json").unlink(),
        "config.json: is not a model's configuration": lambda folder: (folder / "config.json").write_text("[]"),
        "expected [96, 16]": configure(embed_dim=96),
        "layers.4": configure(num_layers=5, spacewise_every_n_layers=5),
        "config.json: does not describe a Toto 1.0": configure(scaler_cls="other"),
        "model.safetensors: is damaged": lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 40),
    }
    for number, (text, change) in enumerate(cases.items()):
        folder = changed(f"changed-{number}", change)
        refused(text, lambda folder=folder: bench.pipeline(model=folder), kind)


@check
def quantiles_in_chronos_shapes(bench: Bench) -> None:
    quantiles, mean = bench.plain.predict_quantiles([WAVE, WAVE[:30]], 6, [0.1, 0.5, 0.9], num_samples=64, seed=1)
    assert tuple(quantiles.shape) == (2, 6, 3) and tuple(mean.shape) == (2, 6)
    drawn = bench.plain.predict([WAVE, WAVE[:30]], 6, 64, seed=1)[1].numpy()
    assert np.allclose(quantiles[1].numpy(), np.quantile(drawn, [0.1, 0.5, 0.9], axis=0).T, atol=1e-5)
    assert np.allclose(mean[1].numpy(), drawn.mean(0), rtol=1e-5, atol=1e-5)


@check
def a_table_as_chronos_takes_it(bench: Bench) -> None:
    import pandas as pd

    days = pd.date_range("2024-01-01", periods=100, freq="D")
    rows = [pd.DataFrame({"item_id": "b", "timestamp": days, "target": WAVE, "load": WAVE * 2})]
    rows.append(pd.DataFrame({"item_id": "a", "timestamp": days[:30], "target": WAVE[:30] + 500, "load": 1.0}))
    df = pd.concat(rows).sample(frac=1, random_state=1)
    order = list(dict.fromkeys(df["item_id"]))
    found = bench.plain.predict_df(df, prediction_length=4, quantile_levels=[0.1, 0.9], num_samples=32)
    assert list(found.columns) == ["item_id", "timestamp", "target_name", "predictions", "0.1", "0.9"]
    assert list(found["item_id"]) == [order[0]] * 4 + [order[1]] * 4 and set(found["target_name"]) == {"target"}
    of_a = found[found["item_id"] == "a"]
    assert list(of_a["timestamp"]) == list(days[30:34]) and abs(of_a["predictions"].mean() - 503) < 60
    assert (found["0.1"] <= found["0.9"]).all()
    both = bench.plain.predict_df(df, prediction_length=4, target=["target", "load"], num_samples=8)
    assert len(both) == 16 and list(both["target_name"][:8]) == ["target"] * 4 + ["load"] * 4
    ends = {"b": days[-1], "a": days[29]}
    future = pd.concat(
        pd.DataFrame({"item_id": key, "timestamp": pd.date_range(end, periods=5, freq="D")[1:], "load": 2.0})
        for key, end in ends.items()
    )
    assert len(bench.plain.predict_df(df, prediction_length=4, future_df=future, num_samples=8)) == 8
    refused("future_df has 4 rows", lambda: bench.plain.predict_df(df, prediction_length=5, future_df=future))
    refused("df has no column 'price'", lambda: bench.plain.predict_df(df, prediction_length=4, target="price"))
    gap = df.drop(df[df["timestamp"] == days[50]].index[:1])
    gap = gap[~((gap["item_id"] == "b") & (gap["timestamp"] == days[50]))]
    refused("'b': its timestamps are not regular", lambda: bench.plain.predict_df(gap, prediction_length=4))
    df.loc[df["item_id"] == "a", "target"] = np.nan
    refused("item_id 'a': all 30 values are missing", lambda: bench.plain.predict_df(df, prediction_length=4))


@check
def compiled_gives_the_same(bench: Bench) -> None:
    bench.records.clear()
    pipeline = bench.pipeline(torch_compile=True, compile_backend="eager")
    assert pipeline.compiled and pipeline.backend == "eager" and pipeline.mode is None
    graphs = bench.torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    found = pipeline.predict([WAVE, WAVE * 2, WAVE * 3], 8, 16, 16, seed=2)
    assert graphs["unique_graphs"] > before
    expected = bench.plain.predict([WAVE, WAVE * 2, WAVE * 3, WAVE * 3], 8, 16, 16, seed=2)  # filled up to four
    for one, other in zip(found, expected[:3], strict=True):
        assert np.allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-4)
    # Another number of samples, and of series: whole batches of the same shape, and nothing is compiled again.
    before = graphs["unique_graphs"]
    with bench.calls(pipeline) as calls:
        more = pipeline.predict([WAVE] * 4, 8, 13 if pipeline.profile == "full-graph" else 39, 16)
    assert [forecast.numpy().shape[1] for forecast in more] == [8] * 4
    assert all(shape == (4, 1, 100) and drawn % at_once == 0 for shape, drawn, at_once in calls)
    assert graphs["unique_graphs"] == before
    advice = bench.warnings("toto-patch apply")
    assert len(advice) == (1 if pipeline.profile is None else 0)
    assert bench.pipeline(torch_compile=True, compile_mode="max-autotune").mode == "max-autotune"


@check
def without_a_compiler_it_forecasts_eagerly(bench: Bench) -> None:
    import torch._inductor.config as inductor

    bench.records.clear()
    pipeline = bench.pipeline(torch_compile=True)
    before = bench.plain.predict(WAVE, 5, 8, 8, seed=1)[0].samples
    with inductor.patch({"cpp.cxx": ("/nonexistent/g++",)}):
        assert pipeline.compiled
        found = [pipeline.predict(WAVE, 5, 8, 8, seed=1)[0].samples for _ in range(2)]
    assert not pipeline.compiled and pipeline.mode is None
    assert all(bench.torch.equal(one, before) for one in found)
    assert len(bench.warnings("torch.compile failed")) == 1


@check
def an_error_of_the_forecast_itself_leaves_it_compiled(bench: Bench) -> None:
    pipeline = bench.pipeline(torch_compile=True, compile_backend="eager")
    bench.records.clear()
    forecast, bench.tree.forecaster.forecast = bench.tree.forecaster.forecast, _broken
    try:
        pipeline.predict(WAVE, 5, 8, 8)
        raise AssertionError("no error came through")
    except ZeroDivisionError:
        pass
    finally:
        bench.tree.forecaster.forecast = forecast
    assert pipeline.compiled and not bench.warnings("torch.compile failed")
    assert len(pipeline.predict(WAVE, 5, 8, 8)[0]) == 8 and pipeline.compiled


def _broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError


@check
def sixteen_bits(bench: Bench) -> None:
    reference = bench.plain.predict(WAVE, 8, 256, seed=1)[0]
    validate = bench.torch.distributions.Distribution._validate_args
    for options in ({"torch_dtype": "bfloat16"}, {"amp_dtype": bench.torch.bfloat16}):
        pipeline = bench.pipeline(**options)
        try:
            found = pipeline.predict(WAVE, 8, 256, seed=1)[0]
        except Exception as error:  # torch's CPU cannot draw what upstream draws
            assert type(error).__name__ == "InputError" and pipeline.profile != "full-graph", error
            assert "full-graph" in str(error.hint)  # type: ignore[attr-defined]
            continue
        assert found.samples.dtype == bench.torch.float32
        assert float((found.median - reference.median).abs().max() / reference.std.max()) < 0.7
    assert bench.torch.distributions.Distribution._validate_args is validate
    auto = bench.pipeline(torch_dtype="auto")
    assert next(auto.model.parameters()).dtype == bench.torch.float32


@check
def a_bar_where_it_is_wanted(bench: Bench) -> None:
    import io

    series = [WAVE, WAVE[:50]]
    for wanted, shown in ((True, True), (None, False), (False, False)):
        with contextlib.redirect_stderr(io.StringIO()) as stream:
            bench.plain.predict(series, 3, 4, progress=wanted)
        assert bool(stream.getvalue()) is shown, wanted


@check
def one_process_holds_one_tree(bench: Bench) -> None:
    from toto_patcher.runtime import vendored

    assert vendored.load(bench.root) is vendored.load() is bench.tree
    other = bench.folder / "other"
    other.mkdir()
    refused(str(other), lambda: vendored.load(other), "UsageError")
    assert bench.plain.root == bench.root and bench.plain.model.__class__.__name__ == "Toto"


@check
def libcst_is_never_imported(bench: Bench) -> None:
    assert not {"libcst", "toto_patcher.patching", "lightning"} & sys.modules.keys()
    import gluonts.torch.distributions  # what stood in for gluonts.torch is gone

    assert gluonts.torch.__file__ is not None and hasattr(gluonts.torch, "PyTorchPredictor")


for each in (*data_checks.CHECKS, *process_checks.CHECKS):
    check(each)


def main(tree: str, root: str, folder: str) -> None:
    bench = Bench(Path(root).resolve(), Path(folder).resolve())
    outcomes: dict[str, str | None] = {}
    for name, function in CHECKS.items():
        if tree not in ON.get(name, (tree,)):
            continue
        try:
            function(bench)
            outcomes[name] = None
        except Exception:
            outcomes[name] = traceback.format_exc()
    print(json.dumps({"profile": bench.plain.profile, "outcomes": outcomes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
