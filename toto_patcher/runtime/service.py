"""The pipelines of this process and what has become of them, for monitors. Needs no torch."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_pipelines: weakref.WeakSet[Any] = weakref.WeakSet()


@dataclass(frozen=True)
class State:
    """How forecasts are made.

    Attributes:
        compiled: all pipelines are compiled; ``None`` where there is no pipeline.
        profiles: of their trees, sorted; "unpatched" among them for a tree without a patch.
        lost: why compilation that was asked for is not in force, by pipeline.
        fallbacks: why forecasts took upstream's path, sorted; empty while none did.
    """

    compiled: bool | None
    profiles: tuple[str, ...]
    lost: tuple[str, ...]
    fallbacks: tuple[str, ...]


def register(pipeline: Any) -> None:
    """Makes a pipeline known as long as it lives."""
    _pipelines.add(pipeline)


def state(pipelines: Iterable[Any] | None = None) -> State:
    """The state of these pipelines, of all in this process by default."""
    found = list(_pipelines) if pipelines is None else list(pipelines)
    return State(
        all(bool(getattr(each, "compiled", False)) for each in found) if found else None,
        tuple(sorted({getattr(each, "profile", None) or "unpatched" for each in found})),
        tuple(filter(None, (getattr(each, "compile_error", None) for each in found))),
        tuple(sorted({reason for each in found for reason in getattr(each, "fallbacks", ())})),
    )
