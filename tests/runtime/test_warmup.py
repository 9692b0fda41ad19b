"""Warm-up and its judgement: what fails loudly, what counts as warm."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from toto_patcher.compat import toto_warmup_helper
from toto_patcher.errors import InputError, TotoPatchError, WarmUpError
from toto_patcher.runtime import compilations, warmup
from toto_patcher.runtime.sampling import judge_sampling


class Normal:
    """Forecasts independent normal samples around the context's last value, and keeps what it was asked for."""

    compiled = False

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int, int | None]] = []
        self._draw = np.random.default_rng(0)

    def predict(
        self,
        context: Any,
        prediction_length: int,
        num_samples: int = 256,
        samples_per_batch: int | None = None,
        **options: Any,
    ) -> list[torch.Tensor]:
        self.calls.append((len(context), prediction_length, num_samples, samples_per_batch))
        self.options = options
        return [torch.as_tensor(context[-1] + self.draw(num_samples, prediction_length))]

    def draw(self, samples: int, points: int) -> np.ndarray:
        return self._draw.standard_normal((samples, points))


def test_the_number_of_runs_and_the_defaults_are_those_of_the_guide() -> None:
    for name, runs in (("quick", 1), ("standard", 2), ("thorough", 3)):
        pipeline = Normal()
        assert getattr(toto_warmup_helper, f"{name}_warmup")(pipeline) > 0
        assert pipeline.calls == [(512, 8, 1024, 128)] * runs


def test_a_context_or_several_shapes_take_the_place_of_the_defaults() -> None:
    pipeline = Normal()
    warmup.quick_warmup(pipeline, [1.0, 2.0, 3.0], prediction_length=4, num_samples=6, samples_per_batch=3)
    warmup.standard_warmup(pipeline, shapes=[(64, 8, 4, None), warmup.Shape([1.0] * 20, 16, 4)])
    assert pipeline.calls == [(3, 4, 6, 3), *[(64, 8, 4, None), (20, 16, 4, 128)] * 2] and pipeline.options == {}
    warmup.quick_warmup(pipeline, shapes=[warmup.Shape(64, num_samples=4, options={"interval_seconds": 60})])
    assert pipeline.options == {"interval_seconds": 60}


@pytest.mark.parametrize("asked", [{"shapes": []}, {"context": [1.0], "shapes": [(64, 8)]}])
def test_no_shape_and_two_answers_are_input_errors(asked: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        warmup.quick_warmup(Normal(), **asked)


@pytest.mark.parametrize(
    ("forecasts", "told"),
    [
        ([], "no forecast"),
        ([np.full((4, 8), math.nan)], "32 of 32 values"),
        ([np.zeros((4, 8)), np.full((4, 8), math.inf)], "not finite"),
        ([np.zeros((8, 4))], "the shape (8, 4), not (4, ..., 8)"),
        ([np.zeros(8)], "the shape (8,)"),
    ],
)
def test_a_forecast_that_is_none_fails_the_warm_up(forecasts: list[np.ndarray], told: str) -> None:
    class Planted(Normal):
        def predict(self, *_: Any, **__: Any) -> list[torch.Tensor]:
            return [torch.as_tensor(array) for array in forecasts]

    with pytest.raises(WarmUpError) as failure:
        warmup.quick_warmup(Planted(), prediction_length=8, num_samples=4)
    assert told in str(failure.value) and isinstance(failure.value.__cause__, ValueError)


def test_any_run_that_fails_fails_the_warm_up_and_is_its_cause() -> None:
    class Third(Normal):
        def predict(self, *args: Any, **asked: Any) -> list[torch.Tensor]:
            if len(self.calls) == 2:
                raise RuntimeError("out of luck")
            return super().predict(*args, **asked)

    warmup.standard_warmup(Third(), num_samples=4)
    with pytest.raises(TotoPatchError, match=r"run 3 of 3 failed.*out of luck") as failure:
        warmup.thorough_warmup(Third(), num_samples=4)
    assert isinstance(failure.value.__cause__, RuntimeError)


def test_effectiveness_has_the_promised_keys_and_is_json() -> None:
    found = toto_warmup_helper.verify_warmup_effectiveness(Normal(), [1.0] * 64)
    promised = {"mae_mean", "mae_std", "mae_cv", "time_mean_ms", "time_std_ms", "time_cv", "num_runs"}
    assert promised <= found.keys() and json.loads(json.dumps(found))["effective"] is True
    assert found["num_runs"] == 10 and found["recompilations"] == 0 and found["reasons"] == []
    assert found["mae_mean"] == pytest.approx(1.16, abs=0.05)  # mean of |1 + normal|
    assert found["mae_cv"] == pytest.approx(found["mae_std"] / found["mae_mean"])
    assert found["sampling_ratio"] == pytest.approx(1.0, abs=0.4)


def test_draws_that_repeat_are_not_effective() -> None:
    class Again(Normal):
        def draw(self, samples: int, points: int) -> np.ndarray:
            return np.random.default_rng(0).standard_normal((samples, points))

    class EveryBatchTheSame(Normal):
        def draw(self, samples: int, points: int) -> np.ndarray:
            return np.tile(super().draw(samples // 16, points), (16, 1))

    for planted, verdict in ((Again(), "too narrow"), (EveryBatchTheSame(), "too wide")):
        found = warmup.verify_warmup_effectiveness(planted, [1.0] * 64)
        assert not found["effective"] and found["sampling_verdict"] == verdict and "draws repeat" in found["reasons"][0]


@pytest.mark.parametrize("runs", [2, 5, 10, 40])
def test_heavy_tails_and_points_that_move_together_are_no_alarm(runs: int) -> None:
    draw = np.random.default_rng(runs)
    ratios = []
    for _ in range(200):
        samples = np.repeat(draw.standard_t(2.0, (runs, 128, 1)), 8, axis=2)
        found = judge_sampling(samples)
        assert found.verdict == "as expected"
        ratios.append(found.ratio**2)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.35)


def test_what_is_compiled_after_the_warm_up_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Compiled(Normal):
        compiled = True

        def __init__(self, specialises: bool) -> None:
            super().__init__()
            self.specialises = specialises
            torch._dynamo.reset()
            self.shift = torch.compile(lambda x, by: x + by, backend="eager", dynamic=False)

        def predict(self, *args: Any, **asked: Any) -> list[torch.Tensor]:
            made = super().predict(*args, **asked)
            return [self.shift(made[0], len(self.calls) % 7 if self.specialises else 1)]

    good, bad = Compiled(False), Compiled(True)
    before = compilations.total()
    warmup.standard_warmup(good, [1.0] * 64)
    assert compilations.warm_mark() == compilations.total() > before
    assert warmup.verify_warmup_effectiveness(good, [1.0] * 64)["effective"]
    warmup.quick_warmup(bad, [1.0] * 64)
    found = warmup.verify_warmup_effectiveness(bad, [1.0] * 64)
    assert found["recompilations"] > 0 and "after the warm-up" in found["reasons"][0] and not found["effective"]
    monkeypatch.setattr(compilations, "total", lambda: 0)
    assert "nothing was compiled" in warmup.verify_warmup_effectiveness(good, [1.0] * 64)["reasons"][0]


def test_a_forecast_that_compiles_after_the_warm_up_is_said_with_its_shape(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compilations, "_warm", None)
    monkeypatch.setattr(compilations, "_calls", 0)

    def call(compiles: bool) -> None:
        with compilations.watched(lambda: "2 series"):
            if compiles:
                torch._dynamo.reset()
                torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(3))

    call(True)  # nobody said yet that the process is warm
    assert compilations.compiling_calls() == 0
    compilations.mark_warm()
    for compiles in (False, True, True, False, True, True):
        call(compiles)
    assert compilations.compiling_calls() == 4
    said = [record.getMessage() for record in caplog.records if record.name == compilations.__name__]
    assert len(said) == 3 and "(2 series)" in said[0] and "so far: 4" in said[2]  # the first, second, fourth


def test_the_gate_closes_where_compilation_is_lost_or_upstreams_path_is_taken() -> None:
    for name, value, told in (
        ("compile_error", "no compiler", "compilation is lost: no compiler"),
        ("fallbacks", ("a hook",), "forecasts take upstream's path: a hook"),
    ):
        pipeline = Normal()
        assert warmup.verify_warmup_effectiveness(pipeline, [1.0] * 64)["effective"]
        setattr(pipeline, name, value)
        found = warmup.verify_warmup_effectiveness(pipeline, [1.0] * 64)
        assert not found["effective"] and found["reasons"] == [told]


def test_compilations_are_counted_beyond_torchs_own_memory() -> None:
    from torch._dynamo.utils import counters

    before = compilations.total()
    for size in range(1, 71):  # torch remembers 64
        torch._dynamo.reset()
        torch.compile(lambda x: x + 1, backend="eager", dynamic=False)(torch.zeros(size))
        if size == 30:
            assert compilations.total() - before == 30
            counters.clear()
    assert compilations.total() - before == 70
