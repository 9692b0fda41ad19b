"""What production code imports: compile configuration, pipeline, warm-up, monitor. Knows torch, never libcst.

Importing this package imports no torch: its names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toto_patcher.runtime import compile_config
    from toto_patcher.runtime.forecast import Forecast
    from toto_patcher.runtime.monitor import TotoMonitor
    from toto_patcher.runtime.pipeline import TotoPipeline
    from toto_patcher.runtime.said import DataWarning
    from toto_patcher.runtime.warmup import (
        quick_warmup,
        standard_warmup,
        thorough_warmup,
        verify_warmup_effectiveness,
    )

__all__ = [
    "DataWarning",
    "Forecast",
    "TotoMonitor",
    "TotoPipeline",
    "compile_config",
    "quick_warmup",
    "standard_warmup",
    "thorough_warmup",
    "verify_warmup_effectiveness",
]
_MODULES = {"DataWarning": "said", "Forecast": "forecast", "TotoMonitor": "monitor", "TotoPipeline": "pipeline"}
"""Where a name is defined, if that is not ``warmup``."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "compile_config":
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'warmup')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
