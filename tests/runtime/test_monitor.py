"""The monitor: what it calls healthy, its baseline, its exports, and that it needs no torch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from toto_patcher.errors import InputError, UsageError
from toto_patcher.runtime import compilations, monitor_export
from toto_patcher.runtime.baseline import Baseline
from toto_patcher.runtime.monitor import BUCKETS_S, Totals, TotoMonitor
from toto_patcher.supported import install_hint


def forecast(level: float) -> np.ndarray:
    """64 samples of 8 points, half of them at -level: only their absolute values count."""
    return level * np.where(np.arange(512) % 2, 1.0, -1.0).reshape(64, 8)


def filled(levels: list[float], times: list[float] | None = None, **options: Any) -> TotoMonitor:
    monitor = TotoMonitor(**options)
    for level, ms in zip(levels, times or [10.0] * len(levels), strict=True):
        monitor.record(forecast(level), ms)
    return monitor


def health(monitor: TotoMonitor) -> dict[str, Any]:
    found = monitor.check_health()
    assert isinstance(found, dict)
    return found


def test_under_five_records_there_is_nothing_to_say() -> None:
    assert filled([1.0, 100.0, 1.0, 100.0]).check_health() is True


def test_spreads_are_those_of_levels_and_latencies() -> None:
    found = health(filled([9.0, 10.0, 11.0, 9.0, 11.0], [1.0, 2.0, 3.0, 2.0, 2.0], alert_threshold_cv=0.20))
    assert found["mae_cv"] == pytest.approx(np.std([9, 10, 11, 9, 11], ddof=1) / 10)
    assert found["time_cv"] == pytest.approx(np.std([1, 2, 3, 2, 2], ddof=1) / 2)
    assert found["healthy"] is True and found["reasons"] == [] and found["time_p95_ms"] == 3.0


def test_each_limit_broken_alone_is_the_reason() -> None:
    level, pace = [10.0] * 5, [10.0, 20.0, 10.0, 10.0, 10.0]
    base = Baseline(100, 5.0, 10.0, 12.0)
    for monitor, told in (
        (filled([10, 10, 20, 10, 10]), "level of the forecasts varies"),
        (filled([10, 10, math.nan, 10, 10]), "512 values are NaN"),
        (filled(level, pace, alert_threshold_time_cv=0.2), "latency varies"),
        (filled(level, baseline=base), "off the baseline by 100%"),
        (filled([5.0] * 5, [16.0] * 5, baseline=base), "latency is above the baseline by 60%"),
    ):
        found = health(monitor)
        assert found["healthy"] is False and len(found["reasons"]) == 1 and told in found["reasons"][0], found
    assert health(filled(level, pace))["healthy"] and health(filled([5.0] * 5, [1.0] * 5, baseline=base))["healthy"]


def test_only_the_window_is_judged() -> None:
    monitor = filled([10, math.nan, 50, 10, 10, 10, 10, 10], window=5)
    assert health(monitor)["healthy"] and monitor.snapshot()["totals"]["bad_values"] == 512


def test_forecasts_arrays_tensors_and_lists_of_forecasts_are_recorded() -> None:
    monitor, array = TotoMonitor(), forecast(3.0)
    tensor = torch.as_tensor(array)
    one = SimpleNamespace(samples=tensor, numpy=lambda: array)
    for each in (one, array, tensor, tensor.to(torch.bfloat16).requires_grad_(), [one, one]):
        monitor.record(each, 1.0)
    assert health(monitor)["level_mean"] == pytest.approx(3.0) and health(monitor)["mae_cv"] == 0.0


@pytest.mark.parametrize(("given", "ms"), [([], 1.0), ("text", 1.0), (object(), 1.0), ([1.0], -1.0), ([1.0], math.nan)])
def test_what_is_no_forecast_or_no_time_is_refused(given: Any, ms: float) -> None:
    monitor = TotoMonitor()
    with pytest.raises(InputError):
        monitor.record(given, ms)
    assert monitor.snapshot()["totals"]["forecasts"] == 0


@pytest.mark.parametrize("options", [{"alert_threshold_cv": 0}, {"window": 4}, {"alert_threshold_drift": math.nan}])
def test_limits_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        TotoMonitor(**options)


def test_a_baseline_is_saved_loaded_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    made = filled([4.0] * 5).save_baseline(file)
    assert TotoMonitor(baseline=file).baseline == made == Baseline(5, 4.0, 10.0, 10.0)
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(InputError, match="at least 5"):
        TotoMonitor().save_baseline(file)
    for text in ("no json", "[]", '{"schema": 1}', file.read_text().replace('"schema": 1', '"schema": 2')):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match="baseline"):
            TotoMonitor().load_baseline(tmp_path / "bad.json")
    with pytest.raises(InputError, match="cannot be read"):
        TotoMonitor(baseline=tmp_path / "none.json")


def test_compilations_after_the_warm_up_are_unhealthy_until_they_leave_the_window() -> None:
    def compile_something() -> None:
        torch._dynamo.reset()
        torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(3))

    monitor = TotoMonitor(window=5)
    compile_something()
    compilations.mark_warm()
    for _ in range(5):
        monitor.record(forecast(1.0), 1.0)
    assert health(monitor)["healthy"]
    compile_something()
    monitor.record(forecast(1.0), 1.0)
    found = health(monitor)
    assert found["recompilations"] == 1 and found["reasons"] == ["1 compilations after the warm-up"]
    for _ in range(5):
        monitor.record(forecast(1.0), 1.0)
    assert health(monitor)["healthy"] and health(monitor)["recompilations"] == 1


def test_the_truth_of_a_judgement_is_its_health() -> None:
    good, bad = filled([10.0] * 5), filled([10, 10, math.nan, 10, 10])
    assert good.check_health() and not bad.check_health()
    found = bad.check_health()
    assert isinstance(found, dict) and found["healthy"] is False and {**found} == found
    assert json.loads(bad.to_json())["health"]["nan_count"] == 512


def test_compilation_that_is_lost_is_unhealthy_at_once() -> None:
    lost = SimpleNamespace(compiled=False, profile="full-graph", compile_error="no compiler", fallbacks=("a hook",))
    monitor = TotoMonitor(pipeline=lost)
    text = monitor.to_prometheus()
    for line in ('toto_healthy{monitor=""} 0.0', 'toto_compile_lost{monitor=""} 1.0', 'toto_compiled{monitor=""} 0.0'):
        assert line in text
    assert 'toto_profile_info{monitor="",profile="full-graph"} 1.0' in text and 'toto_fallback{monitor=""} 1.0' in text
    for _ in range(5):
        monitor.record(forecast(1.0), 1.0)
    found = health(monitor)
    assert found["reasons"] == ["compilation is lost: no compiler"] and found["fallbacks"] == ["a hook"]
    fine = SimpleNamespace(compiled=True, profile=None, compile_error=None, fallbacks=())
    assert health(filled([1.0] * 5, pipeline=fine))["compiled"] is True
    # Without a pipeline in the process there is nothing to say.
    assert health(filled([1.0] * 5))["compiled"] is None and "toto_compiled{" not in TotoMonitor().to_prometheus()


def test_forecasts_that_met_a_compilation_are_counted() -> None:
    monitor = TotoMonitor()
    compilations.mark_warm()
    for size in range(1, 7):
        if size % 2:
            torch._dynamo.reset()
            torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(size))
        monitor.record(forecast(1.0), 1.0)
    assert health(monitor)["compiling_calls"] == 3 and health(monitor)["recompilations"] == 3
    assert 'toto_compiling_calls_total{monitor=""} 3.0' in monitor.to_prometheus()


def test_json_holds_everything_and_no_nan() -> None:
    found = json.loads(filled([math.nan] * 5, name="load").to_json())
    assert found["name"] == "load" and found["health"]["level_mean"] is None and not found["health"]["healthy"]
    assert found["totals"]["forecasts"] == 5


def test_prometheus_text_is_read_back_with_its_units() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    first, second = filled([1, 1, math.inf, 1, 1], [4.0] * 4 + [20_000.0], name="a"), TotoMonitor(name="b")
    families = {f.name: f for f in text_string_to_metric_families(monitor_export.exposition([first, second]))}
    values = {(s.name, s.labels["monitor"], s.labels.get("le")): s.value for f in families.values() for s in f.samples}
    assert families["toto_inference_seconds"].type == "histogram"
    assert values["toto_inference_seconds_bucket", "a", "0.0025"] == 0
    assert values["toto_inference_seconds_bucket", "a", "0.005"] == 4
    assert (
        values["toto_inference_seconds_bucket", "a", "+Inf"] == values["toto_inference_seconds_count", "a", None] == 5
    )
    assert values["toto_inference_seconds_sum", "a", None] == pytest.approx(20.016)
    assert values["toto_forecast_nan_total", "a", None] == 512 and values["toto_recompilations_total", "a", None] == 0
    assert values["toto_healthy", "a", None] == 0 and values["toto_healthy", "b", None] == 1
    assert first.to_prometheus().count("toto_healthy{") == 1


def test_without_prometheus_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match="not installed") as refusal:
        TotoMonitor().to_prometheus()
    assert install_hint("monitor") in str(refusal.value.hint)


def test_threads_lose_no_record() -> None:
    class Slow(Totals):
        """Lets other threads run between reading a sum and writing it."""

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            time.sleep(1e-4 if name == "forecasts" else 0)
            return value

    monitor = TotoMonitor()
    monitor._totals = Slow(0, 0, 0.0, [0] * (len(BUCKETS_S) + 1))
    threads = [
        threading.Thread(target=lambda: [monitor.record(forecast(1.0), 1.0) for _ in range(20)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor.snapshot()["totals"]["forecasts"] == 160


def test_a_service_that_records_arrays_never_imports_torch() -> None:
    code = (
        "import sys, numpy\nfrom toto_patcher.runtime.monitor import TotoMonitor\nm = TotoMonitor()\n"
        "for _ in range(6): m.record(numpy.ones((4, 8)), 1.0)\n"
        "assert m.check_health()['healthy'] and m.to_json() and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
