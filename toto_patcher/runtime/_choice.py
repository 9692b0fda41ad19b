"""Stands in for ``environment.choose`` until that module is there."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """How to compile, and where that comes from."""

    enabled: bool
    mode: str | None
    backend: str | None
    origins: dict[str, str]


def choose(enabled: bool | None, mode: str | None, backend: str | None) -> Choice:
    """The argument, else a default; TOTO_DISABLE_COMPILE wins."""
    origin = "default" if enabled is None else "argument"
    enabled = bool(enabled) and os.environ.get("TOTO_DISABLE_COMPILE", "") in ("", "0")
    return Choice(enabled, mode or "reduce-overhead", backend, {"enabled": origin})
