"""Watches the forecasts of a service: level, latency, values that are no numbers, compilation. Needs no torch."""

from __future__ import annotations

import json
import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any, Literal

from toto_patcher.errors import InputError
from toto_patcher.runtime import compilations, forking, service
from toto_patcher.runtime.baseline import Baseline

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ENOUGH = 5
"""Records before there is anything to judge."""
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Record:
    """One forecast.

    Attributes:
        level: mean absolute value of its samples, of those that are finite; NaN where none is.
        ms: how long it took.
        bad: values that are NaN or infinite.
        compiled: ``compilations.total()`` afterwards.
    """

    level: float
    ms: float
    bad: int
    compiled: int


@dataclass
class Totals:
    """Sums since the monitor was made; they only grow.

    Attributes:
        forecasts: recorded.
        bad_values: values that were NaN or infinite.
        seconds: of inference.
        buckets: forecasts by latency: up to each of ``BUCKETS_S``, and above.
        compiling_calls: of the forecasts, those before which or in which something was compiled after the warm-up.
    """

    forecasts: int
    bad_values: int
    seconds: float
    buckets: list[int]
    compiling_calls: int = 0


class Health(dict[str, Any]):
    """What ``check_health`` found; as a truth value it is ``healthy``."""

    def __bool__(self) -> bool:
        return bool(self.get("healthy"))


class TotoMonitor:
    """Keeps the last forecasts of one series and says whether they look healthy. Safe to use from several threads.

    Use a monitor for each series that is forecast: the levels of two series differ by nature. Compilations are counted
    in the whole process, after the monitor was made and after the last warm-up by ``runtime.warmup``.

    Args:
        alert_threshold_cv: largest ``mae_cv`` that is healthy.
        window: forecasts that are looked at; older ones only count in the totals.
        baseline: what was healthy before: a ``Baseline`` or the file of ``save_baseline``.
        alert_threshold_drift: largest ``level_drift`` and ``time_drift`` that are healthy, against the baseline.
        alert_threshold_time_cv: largest ``time_cv`` that is healthy; ``None``: a machine with other work is no alarm.
        name: label of the Prometheus export, for services with several monitors.
        pipeline: whose compilation and profile are looked at; by default those of all pipelines of the process.

    Raises:
        InputError: a threshold is not above 0, the window holds fewer than 5, or the baseline cannot be read.
    """

    def __init__(
        self,
        alert_threshold_cv: float = 0.20,
        window: int = 100,
        baseline: Baseline | Path | str | None = None,
        *,
        alert_threshold_drift: float = 0.50,
        alert_threshold_time_cv: float | None = None,
        name: str = "",
        pipeline: Any = None,
    ) -> None:
        limits = {
            "alert_threshold_cv": alert_threshold_cv,
            "alert_threshold_drift": alert_threshold_drift,
            "alert_threshold_time_cv": alert_threshold_time_cv,
        }
        for limit, value in limits.items():
            if value is not None and not value > 0:
                raise InputError(f"{limit} is {value}, and must be above 0")
        if window < ENOUGH:
            raise InputError(f"window is {window}, and must be at least {ENOUGH}")
        self.name = name
        self.baseline = baseline if baseline is None or isinstance(baseline, Baseline) else Baseline.load(baseline)
        self._limits = limits
        self._lock = threading.Lock()
        self._records: deque[Record] = deque(maxlen=window)
        self._totals = Totals(0, 0, 0.0, [0] * (len(BUCKETS_S) + 1))
        self._made = self._last = compilations.total()
        self._pipelines = None if pipeline is None else [pipeline]
        forking.renew(self)

    def after_fork(self) -> None:
        """See ``forking``."""
        self._lock = threading.Lock()

    def record(self, forecast: Any, inference_time_ms: float) -> None:
        """Adds a forecast.

        Args:
            forecast: a ``Forecast``, its samples as an array or a tensor, or the list that ``predict`` returns, which
                counts as one forecast.
            inference_time_ms: how long it took.

        Raises:
            InputError: the forecast is empty or holds no numbers, or the time is negative or not finite.
        """
        import numpy as np

        if not (math.isfinite(inference_time_ms) and inference_time_ms >= 0):
            raise InputError(f"inference_time_ms is {inference_time_ms}, which is no time")
        values = _values(forecast)
        if not values.size:
            raise InputError("the forecast is empty")
        finite = np.isfinite(values)
        level = float(np.abs(values[finite]).mean()) if finite.any() else math.nan
        bad = int(values.size - finite.sum())
        made = Record(level, float(inference_time_ms), bad, compilations.total())
        with self._lock:
            self._records.append(made)
            self._totals.forecasts += 1
            self._totals.bad_values += bad
            self._totals.seconds += made.ms / 1e3
            self._totals.buckets[bisect_left(BUCKETS_S, made.ms / 1e3)] += 1
            self._totals.compiling_calls += made.compiled > max(self._last, compilations.warm_mark())
            self._last = made.compiled

    def check_health(self) -> Literal[True] | Health:
        """Judges the window. ``True`` while it holds fewer than 5 records: too few to say anything.

        Returns:
            A dictionary whose truth value is its ``healthy``, so that ``if not monitor.check_health(): alarm()`` works.
            ``mae_cv``: standard deviation over mean, across the records of the window, of each forecast's mean
            absolute level (the mean of the absolute values of its samples); it tells forecasts that jump about, and
            has nothing to do with errors against what came later. ``time_cv``: the same of the latencies.
            ``healthy``, and ``reasons`` in words where it is not. ``num_records``, ``level_mean``, ``time_mean_ms``,
            ``time_median_ms``, ``time_p95_ms``. ``nan_count``: values of the window that are NaN or infinite; one is
            unhealthy. ``recompilations``: since the warm-up; ``recent_recompilations``: those of them since the
            window's first record, any of which is unhealthy; ``compiling_calls``: recorded forecasts that met one.
            ``compiled``, ``profiles``: of the pipelines, ``None`` and empty where there is none; ``compile_errors``:
            why compilation that was asked for is lost, which is unhealthy; ``fallbacks``: why forecasts took
            upstream's path, which is slow but right. ``level_drift`` and ``time_drift``: how far the mean
            level and the median latency are from the baseline's, as a share of it; ``None`` without a baseline.
            Time drifts to the worse only by growing.
        """
        with self._lock:
            records = list(self._records)
        return True if len(records) < ENOUGH else self._judge(records)

    def service(self) -> service.State:
        """How the pipeline, or those of the process, forecast now."""
        return service.state(self._pipelines)

    def _judge(self, records: Sequence[Record]) -> Health:
        levels = [record.level for record in records if not math.isnan(record.level)]
        times = [record.ms for record in records]
        since, recent = self._compiled(records)
        serving = self.service()
        found: dict[str, Any] = {
            "mae_cv": _cv(levels),
            "time_cv": _cv(times),
            "num_records": len(records),
            "level_mean": fmean(levels) if levels else math.nan,
            "time_mean_ms": fmean(times),
            "time_median_ms": median(times),
            "time_p95_ms": _p95(times),
            "nan_count": sum(record.bad for record in records),
            "recompilations": since,
            "recent_recompilations": recent,
            "compiling_calls": self._totals.compiling_calls,
            "compiled": serving.compiled,
            "profiles": list(serving.profiles),
            "compile_errors": list(serving.lost),
            "fallbacks": list(serving.fallbacks),
            "level_drift": None,
            "time_drift": None,
        }
        if self.baseline is not None:
            found["level_drift"] = _away(found["level_mean"], self.baseline.level_mean)
            found["time_drift"] = _away(found["time_median_ms"], self.baseline.time_median_ms)
        reasons = self._reasons(found)
        return Health({**found, "reasons": reasons, "healthy": not reasons})

    def _compiled(self, records: Sequence[Record]) -> tuple[int, int]:
        """Compilations since the warm-up, and those of them since the first of the records."""
        now, warm = compilations.total(), max(self._made, compilations.warm_mark())
        first = records[0].compiled if records else now
        return now - warm, now - max(first, warm)

    def _reasons(self, found: dict[str, Any]) -> list[str]:
        told = []
        if found["nan_count"]:
            told.append(f"{found['nan_count']} values are NaN or infinite")
        for key, limit, what in (
            ("mae_cv", "alert_threshold_cv", "the level of the forecasts varies"),
            ("time_cv", "alert_threshold_time_cv", "latency varies"),
            ("level_drift", "alert_threshold_drift", "the level of the forecasts is off the baseline"),
            ("time_drift", "alert_threshold_drift", "latency is above the baseline"),
        ):
            value, bound = found[key], self._limits[limit]
            size = None if value is None else value if key == "time_drift" else abs(value)
            if size is not None and bound is not None and size > bound:
                told.append(f"{what} by {size:.0%}, more than {bound:.0%}")
        if found["recent_recompilations"]:
            told.append(f"{found['recent_recompilations']} compilations after the warm-up")
        told += [f"compilation is lost: {reason}" for reason in found["compile_errors"]]
        return told

    def save_baseline(self, path: Path | str) -> Baseline:
        """Writes what the window holds as the baseline of later monitors, and takes it for this one too.

        Raises:
            InputError: fewer than 5 records, or none with a finite level.
        """
        found = self.check_health()
        if found is True or math.isnan(found["level_mean"]):
            raise InputError(f"a baseline needs at least {ENOUGH} forecasts with finite values")
        self.baseline = Baseline(
            *(found[key] for key in ("num_records", "level_mean", "time_median_ms", "time_p95_ms"))
        )
        self.baseline.save(path)
        return self.baseline

    def load_baseline(self, path: Path | str) -> Baseline:
        """Compares with another baseline from now on: the file of ``save_baseline``; InputError if it is none."""
        self.baseline = Baseline.load(path)
        return self.baseline

    def snapshot(self) -> dict[str, Any]:
        """All that is known now, as plain data: ``totals``, ``recompilations``, ``service``, and ``health`` as of
        ``check_health``.
        """
        with self._lock:
            records, totals = list(self._records), asdict(self._totals)
        return {
            "name": self.name,
            "totals": totals,
            "recompilations": self._compiled(records)[0],
            "service": asdict(self.service()),
            "baseline": None if self.baseline is None else asdict(self.baseline),
            "health": True if len(records) < ENOUGH else self._judge(records),
        }

    def to_json(self) -> str:
        """``snapshot`` as one JSON document; ``null`` stands for a number that is none."""
        return json.dumps(_plain(self.snapshot()), indent=2, allow_nan=False)

    def to_prometheus(self) -> str:
        """The metrics in Prometheus' text format; see ``monitor_export``. UsageError without prometheus-client."""
        from toto_patcher.runtime.monitor_export import exposition

        return exposition([self])


def _values(forecast: Any) -> npt.NDArray[np.float64]:
    """All values of a forecast in one row."""
    import numpy as np

    if isinstance(forecast, list | tuple) and forecast and not isinstance(forecast[0], int | float):
        return np.concatenate([_values(each) for each in forecast])
    if hasattr(forecast, "detach"):  # a tensor; NumPy knows no bfloat16
        forecast = forecast.detach().cpu().double()
    elif not isinstance(forecast, np.ndarray) and hasattr(forecast, "numpy"):
        forecast = forecast.numpy()
    try:
        return np.asarray(forecast, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise InputError(f"a {type(forecast).__name__} is no forecast: {error}") from error


def _cv(values: Sequence[float]) -> float:
    """Standard deviation over mean; 0 where nothing varies."""
    if len(values) < 2:
        return 0.0
    spread, mean = stdev(values), fmean(values)
    return spread / mean if spread else 0.0


def _p95(values: Sequence[float]) -> float:
    """The smallest value that at least 95 % of the values do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def _away(value: float, base: float) -> float | None:
    if math.isnan(value):
        return None
    return (value - base) / base if base else (0.0 if not value else math.inf)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
