"""What production code imports: compile configuration, pipeline, warm-up, monitor. Knows torch, never libcst.

Importing this package imports no torch: its names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toto_patcher.runtime.forecast import Forecast
    from toto_patcher.runtime.pipeline import TotoPipeline

_PLACES = {
    "Forecast": "forecast",
    "TotoMonitor": "monitor",
    "TotoPipeline": "pipeline",
    "quick_warmup": "warmup",
    "standard_warmup": "warmup",
    "thorough_warmup": "warmup",
    "verify_warmup_effectiveness": "warmup",
}
_MODULES = ("compile_config",)

__all__ = [*_PLACES, *_MODULES]  # noqa: PLE0604 - names of this package


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
