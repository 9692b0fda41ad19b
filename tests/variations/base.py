"""What a variation is, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["patched", "refused"]
Apply = Callable[[Path], None]


@dataclass(frozen=True)
class Variation:
    """One form in which people vendor Toto.

    Attributes:
        name: how tests call it.
        apply: rewrites the tree under ``root`` (which holds ``toto/``) in place.
        outcome: whether the profile graph-breaks must patch it or refuse it.
        says: a regular expression that the refusal's text must match.
        full_graph: the same for the profile full-graph, which must patch it where this is empty.
        package: the import name of what was ``toto``; empty when its folder is itself on ``sys.path``.
        sys_path: the folder to put on ``sys.path``, relative to the root.
        same_as_release: the forecasts equal those of the untouched release, bit by bit. False where the variation
            changes the mathematics on purpose; then patched is only compared with unpatched.
        runs: it can be imported before patching.
        left: how the paths begin of what has the names of Toto's classes and is to be left alone.
        why: what it stands for, where the name does not say.
    """

    name: str
    apply: Apply
    outcome: Outcome = "patched"
    says: str = ""
    full_graph: str = ""
    package: str = "toto"
    sys_path: str = "."
    same_as_release: bool = True
    runs: bool = True
    left: str = ""
    why: str = ""


REGISTRY: dict[str, Variation] = {}


def variation(
    outcome: Outcome = "patched",
    *,
    says: str = "",
    full_graph: str = "",
    package: str = "toto",
    sys_path: str = ".",
    same_as_release: bool = True,
    runs: bool = True,
    left: str = "",
) -> Callable[[Apply], Apply]:
    """Registers the decorated function under its own name; its docstring says what it stands for."""

    def register(apply: Apply) -> Apply:
        name = apply.__name__  # type: ignore[attr-defined]
        assert name not in REGISTRY, name
        why = (apply.__doc__ or "").strip()
        REGISTRY[name] = Variation(
            name, apply, outcome, says, full_graph, package, sys_path, same_as_release, runs, left, why
        )
        return apply

    return register
