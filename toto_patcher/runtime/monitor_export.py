"""Monitors in Prometheus' text format (needs prometheus-client, the extra ``monitor``).

| metric | type | meaning |
|---|---|---|
| `toto_inference_seconds` | histogram | latency of the recorded forecasts |
| `toto_forecast_nan_total` | counter | values of forecasts that were NaN or infinite |
| `toto_recompilations_total` | counter | compilations of the process since the warm-up |
| `toto_healthy` | gauge | 1 healthy, 0 not; with too few records 0 only where compilation is lost |
| `toto_forecast_level_cv_ratio` | gauge | `mae_cv` of `check_health` |
| `toto_inference_cv_ratio` | gauge | `time_cv` of `check_health` |
| `toto_compiling_calls_total` | counter | recorded forecasts that met a compilation after the warm-up |
| `toto_compiled` | gauge | 1 all pipelines are compiled, 0 not; absent where there is none |
| `toto_compile_lost` | gauge | pipelines that lost the compilation that was asked for |
| `toto_fallback` | gauge | reasons for which forecasts took upstream's path |
| `toto_profile_info` | gauge | 1, with the label `profile`: that of each tree, or `unpatched` |

Each has the label ``monitor``, the monitor's name. Every export has a registry of its own: nothing enters that of the
process, and a service that exports metrics already registers ``Collector([monitor])`` in its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from toto_patcher.errors import UsageError
from toto_patcher.runtime.monitor import BUCKETS_S
from toto_patcher.supported import install_hint

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from toto_patcher.runtime.monitor import TotoMonitor

MISSING = "prometheus-client is not installed, and the Prometheus export needs it"


class Collector:
    """What a Prometheus registry asks for metrics."""

    def __init__(self, monitors: Sequence[TotoMonitor]) -> None:
        _library()
        self._monitors = tuple(monitors)

    def collect(self) -> Iterator[Metric]:
        """The metrics of all monitors as they are now."""
        core = _library()
        label = ["monitor"]
        latency = core.HistogramMetricFamily("toto_inference_seconds", "Latency of forecasts.", labels=label)
        bad = core.CounterMetricFamily("toto_forecast_nan", "Values that were NaN or infinite.", labels=label)
        compiled = core.CounterMetricFamily("toto_recompilations", "Compilations since the warm-up.", labels=label)
        healthy = core.GaugeMetricFamily("toto_healthy", "1: healthy, or too few records to say.", labels=label)
        level = core.GaugeMetricFamily(
            "toto_forecast_level_cv_ratio", "Spread of the forecasts' level over its mean.", labels=label
        )
        pace = core.GaugeMetricFamily("toto_inference_cv_ratio", "Spread of the latency over its mean.", labels=label)
        calls = core.CounterMetricFamily("toto_compiling_calls", "Forecasts that met a compilation.", labels=label)
        on = core.GaugeMetricFamily("toto_compiled", "1: all pipelines are compiled.", labels=label)
        lost = core.GaugeMetricFamily("toto_compile_lost", "Pipelines that lost their compilation.", labels=label)
        slow = core.GaugeMetricFamily("toto_fallback", "Reasons for forecasts on upstream's path.", labels=label)
        profile = core.GaugeMetricFamily("toto_profile_info", "Profiles of the trees.", labels=[*label, "profile"])
        for monitor in self._monitors:
            found, name = monitor.snapshot(), [monitor.name]
            totals, health = found["totals"], found["health"]
            latency.add_metric(name, list(_cumulated(totals["buckets"])), totals["seconds"])
            bad.add_metric(name, totals["bad_values"])
            compiled.add_metric(name, found["recompilations"])
            serving = found["service"]
            healthy.add_metric(name, float(bool(health) and not serving["lost"]))
            calls.add_metric(name, totals["compiling_calls"])
            if serving["compiled"] is not None:
                on.add_metric(name, float(serving["compiled"]))
            lost.add_metric(name, len(serving["lost"]))
            slow.add_metric(name, len(serving["fallbacks"]))
            for each in serving["profiles"]:
                profile.add_metric([*name, each], 1.0)
            if health is not True:
                level.add_metric(name, health["mae_cv"])
                pace.add_metric(name, health["time_cv"])
        yield from (latency, bad, compiled, healthy, level, pace, calls, on, lost, slow, profile)


def exposition(monitors: Iterable[TotoMonitor]) -> str:
    """The text that a ``/metrics`` endpoint answers with.

    Raises:
        UsageError: prometheus-client is not installed.
    """
    collector = Collector(tuple(monitors))
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def _cumulated(buckets: Sequence[int]) -> Iterator[tuple[str, float]]:
    count = 0
    for edge, here in zip((*BUCKETS_S, "+Inf"), buckets, strict=True):
        count += here
        yield str(edge), count


def _library() -> Any:
    try:
        from prometheus_client import core
    except ImportError as error:
        raise UsageError(MISSING, hint=f"{install_hint('monitor')}, or use TotoMonitor.to_json()") from error
    return core
