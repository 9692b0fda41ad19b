"""Warms a pipeline up before it serves, and tells whether that worked.

The first forecasts of a shape compile, tune and record; later ones only run. Code is compiled for the shapes it is
called with, so a warm-up has to forecast what production will: the defaults are those of the production guide (512
points of context, 8 ahead, 1,024 samples, 128 at once) and are not made smaller for a small model or a CPU, where a
smaller forecast would leave the real one cold. Say your own ``context``, ``prediction_length``, ``num_samples`` and
``samples_per_batch``, or several ``shapes``, where production calls something else.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from toto_patcher.errors import InputError, WarmUpError
from toto_patcher.runtime import compilations, service
from toto_patcher.runtime.sampling import Sampling, judge_sampling

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

CONTEXT, HORIZON, SAMPLES, PER_BATCH = 512, 8, 1024, 128


class Pipeline(Protocol):
    """What a warm-up needs of a pipeline: ``TotoPipeline`` has it."""

    def predict(
        self,
        context: Any,
        prediction_length: int,
        num_samples: int = ...,
        samples_per_batch: int | None = ...,
        **options: Any,
    ) -> Sequence[Any]:
        """Forecasts of the series of ``context``; each has ``numpy()``, (num_samples, ..., prediction_length)."""


@dataclass(frozen=True)
class Shape:
    """One forecast that production makes.

    Attributes:
        context: what ``predict`` takes, or the number of points of one made-up series.
        prediction_length: points ahead.
        num_samples: trajectories drawn.
        samples_per_batch: trajectories drawn at once; ``None`` leaves it to the pipeline.
        options: further arguments of ``predict``, such as ``{"variates": True}``.
    """

    context: Any = CONTEXT
    prediction_length: int = HORIZON
    num_samples: int = SAMPLES
    samples_per_batch: int | None = PER_BATCH
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self, pipeline: Pipeline) -> list[Array]:
        """One forecast, until its samples are on the host; raises ValueError where it is not what was asked for."""
        import numpy as np

        context = made_up(self.context) if isinstance(self.context, int) else self.context
        forecasts = pipeline.predict(
            context=context,
            prediction_length=self.prediction_length,
            num_samples=self.num_samples,
            samples_per_batch=self.samples_per_batch,
            **self.options,
        )
        arrays = [np.asarray(forecast.numpy(), dtype=np.float64) for forecast in forecasts]
        if not arrays:
            raise ValueError("no forecast came back")
        for array in arrays:
            shape = array.shape
            if len(shape) < 2 or (shape[0], shape[-1]) != (self.num_samples, self.prediction_length):
                wanted = f"({self.num_samples}, ..., {self.prediction_length})"
                raise ValueError(f"the forecast has the shape {shape}, not {wanted}")
            if bad := int((~np.isfinite(array)).sum()):
                raise ValueError(f"{bad} of {array.size} values of the forecast are not finite")
        return arrays

    def __str__(self) -> str:
        context = self.context if isinstance(self.context, int) else "the given context"
        return f"{context} -> {self.prediction_length}, {self.num_samples} samples"


def made_up(points: int) -> npt.NDArray[np.float32]:
    """A seeded random walk with a season, shape (points,); the same at every call."""
    import numpy as np

    walk = np.random.default_rng(0).standard_normal(points).cumsum()
    season = np.sin(np.arange(points) * (2 * np.pi / 24))
    return np.asarray(100.0 + 0.3 * walk + 3.0 * season, dtype=np.float32)


def quick_warmup(pipeline: Pipeline, context: Any = None, **asked: Any) -> float:
    """One forecast of each shape. Arguments, result and errors are those of ``warm_up``."""
    return warm_up(pipeline, 1, context, **asked)


def standard_warmup(pipeline: Pipeline, context: Any = None, **asked: Any) -> float:
    """Two forecasts of each shape: the second finds what only a second call compiles or records."""
    return warm_up(pipeline, 2, context, **asked)


def thorough_warmup(pipeline: Pipeline, context: Any = None, **asked: Any) -> float:
    """Three forecasts of each shape, for pipelines that serve several: the last round meets them all compiled."""
    return warm_up(pipeline, 3, context, **asked)


def warm_up(
    pipeline: Pipeline,
    runs: int,
    context: Any = None,
    *,
    prediction_length: int = HORIZON,
    num_samples: int = SAMPLES,
    samples_per_batch: int | None = PER_BATCH,
    shapes: Iterable[Shape | tuple[Any, ...]] | None = None,
) -> float:
    """Forecasts every shape, in rounds, and checks each forecast.

    What is compiled up to its end counts as warm-up for every ``TotoMonitor`` of the process.

    Args:
        pipeline: a ``TotoPipeline``.
        runs: rounds over the shapes.
        context: what production passes to ``predict``; a made-up series of 512 points where there is none.
        shapes: several forecasts in place of ``context`` and the three numbers: ``Shape``, or tuples in the order of
            its fields, such as ``(512, 8)`` and ``(2048, 96, 256, 256)``.

    Returns:
        Seconds, all told.

    Raises:
        WarmUpError: a run failed, or its forecast has another shape or values that are not finite; the original
            exception is its cause.
        InputError: ``runs`` is below 1, or ``shapes`` is empty or given beside a context.
    """
    wanted = _shapes(context, prediction_length, num_samples, samples_per_batch, shapes)
    _at_least("runs", runs, 1)
    start = time.perf_counter()
    for run in range(1, runs + 1):
        for shape in wanted:
            _checked(pipeline, shape, f"warm-up run {run} of {runs}")
    compilations.mark_warm()
    return time.perf_counter() - start


def verify_warmup_effectiveness(
    pipeline: Pipeline,
    context: Any = None,
    prediction_length: int = HORIZON,
    num_samples: int = SAMPLES,
    samples_per_batch: int | None = PER_BATCH,
    num_runs: int = 10,
) -> dict[str, Any]:
    """Forecasts the same thing again and again after a warm-up, and judges time, compilation and samples.

    Returns:
        ``mae_mean``, ``mae_std``, ``mae_cv``: over runs, of the mean absolute value of a forecast's samples, in the
        series' unit (``cv`` is std / mean). ``time_mean_ms``, ``time_std_ms``, ``time_cv``, ``time_median_ms``,
        ``time_p95_ms``, ``first_over_median``: a call until its samples are on the host; a first call that takes many
        times the median was not warm. ``num_runs``. ``recompilations`` during the runs. ``sampling_ratio``: the
        spread of the samples' mean between runs over the one to expect, sample std / sqrt(num_samples);
        ``sampling_bounds`` and ``sampling_verdict`` (``as expected``, ``too wide``, ``too narrow``).
        ``compiled``: whether the pipeline is. ``effective``: no recompilation, samples as expected, compilation not
        lost, no forecast on upstream's path and, where the pipeline says it is compiled, something was compiled; else
        ``reasons`` says in words why not. Time decides nothing: a busy machine spreads it.

    Raises:
        WarmUpError: a run failed, as in ``warm_up``.
        InputError: fewer than 2 runs or samples.
    """
    import numpy as np

    _at_least("num_runs", num_runs, 2)
    _at_least("num_samples", num_samples, 2)
    shape = Shape(CONTEXT if context is None else context, prediction_length, num_samples, samples_per_batch)
    before = compilations.total()
    times, levels, runs = [], [], []
    for run in range(num_runs):
        start = time.perf_counter()
        arrays = _checked(pipeline, shape, f"run {run + 1} of {num_runs}")
        times.append((time.perf_counter() - start) * 1e3)
        values = np.concatenate([array.reshape(num_samples, -1) for array in arrays], axis=1)
        levels.append(float(np.abs(values).mean()))
        runs.append(values)
    after = compilations.total()
    sampling = judge_sampling(np.stack(runs))
    serving = service.state([pipeline])
    reasons = _reasons(after - before, sampling, bool(serving.compiled) and after == 0)
    reasons += [f"compilation is lost: {reason}" for reason in serving.lost]
    reasons += [f"forecasts take upstream's path: {reason}" for reason in serving.fallbacks]
    median = float(np.median(times))
    return {
        **_spread("mae", "", levels),
        **_spread("time", "_ms", times),
        "time_median_ms": median,
        "time_p95_ms": float(np.quantile(times, 0.95)),
        "first_over_median": times[0] / median,
        "num_runs": num_runs,
        "recompilations": after - before,
        "sampling_ratio": sampling.ratio,
        "sampling_bounds": sampling.bounds,
        "sampling_verdict": sampling.verdict,
        "compiled": bool(serving.compiled),
        "effective": not reasons,
        "reasons": reasons,
    }


def _shapes(context: Any, horizon: int, samples: int, per_batch: int | None, shapes: Any) -> list[Shape]:
    if shapes is None:
        return [Shape(CONTEXT if context is None else context, horizon, samples, per_batch)]
    if context is not None:
        raise InputError("both a context and shapes were given", hint="Put the context into one of the shapes.")
    found = [shape if isinstance(shape, Shape) else Shape(*shape) for shape in shapes]
    if not found:
        raise InputError("there is no shape to warm up", hint="For example: shapes=[(512, 8), (2048, 96)]")
    return found


def _checked(pipeline: Pipeline, shape: Shape, what: str) -> list[Array]:
    try:
        return shape.run(pipeline)
    except Exception as error:
        raise WarmUpError(
            f"{what} failed ({shape}): {type(error).__name__}: {error}",
            hint="Do not serve from this process; TOTO_DISABLE_COMPILE=1 runs without compilation.",
        ) from error


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} is {value}, and must be at least {least}")


def _spread(name: str, unit: str, values: Sequence[float]) -> dict[str, float]:
    import numpy as np

    mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
    return {f"{name}_mean{unit}": mean, f"{name}_std{unit}": std, f"{name}_cv": std / mean if mean else 0.0}


def _reasons(recompilations: int, sampling: Sampling, idle: bool) -> list[str]:
    reasons = []
    if recompilations:
        reasons.append(
            f"{recompilations} compilations after the warm-up: production calls another shape, or other code"
        )
    if idle:
        reasons.append("the pipeline says that it is compiled, but nothing was compiled in this process")
    if sampling.reason:
        reasons.append(sampling.reason)
    return reasons
