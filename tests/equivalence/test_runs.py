"""How a case is run, where only a GPU would show it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from toto_patcher.equivalence import cases
from toto_patcher.equivalence.runs import Runner


def test_each_forecast_demands_determinism_anew_and_only_with_a_warning() -> None:
    seen: list[bool] = []

    class Forecaster:
        """As upstream on a GPU: its scaler leaves a demand behind that is no longer "warn only"."""

        model = SimpleNamespace(patch_embed=SimpleNamespace(patch_size=16))

        def forecast(self, *_: Any, **__: Any) -> Any:
            seen.append(torch.is_deterministic_algorithms_warn_only_enabled())
            torch.use_deterministic_algorithms(True)
            return SimpleNamespace(mean=torch.zeros(1))

    runner = Runner.__new__(Runner)
    runner.tree = SimpleNamespace(series=lambda **given: given)  # type: ignore[assignment]
    runner.device = torch.device("cpu")
    case = next(case for case in cases.CASES if case.kind == "point")
    try:
        for _ in range(2):
            runner.one_forecast(case, case.forecasts[0], Forecaster(), torch.float32, None)
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen == [True, True]
