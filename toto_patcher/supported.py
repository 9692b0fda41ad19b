"""Which Python, torch and numpy this program was tested with, and how to install what it needs: the one place.

pyproject.toml, the scripts, CI, README and docs say the same; tests/test_supported.py compares them. Imports nothing
but the standard library, and none of the packages that it speaks of. Run as a file it tells CI what to install.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from importlib import metadata

PYTHON = ("3.10", "3.14")
TORCH = ("2.7.0", "2.15.0")
NUMPY = ("1.26.4", "2.4.6")
"""Of each the oldest and the newest that is supported. CI runs all tests on what pip gives, and the short suite on the
oldest torch and on one in between."""

BETWEEN = "2.13.0"
"""The torch in between; of it the scripts install the small CPU build, where that is asked for."""

FROM_PYTHON = (((3, 14), "2.9.1"), ((3, 13), "2.7.0"))
"""Since this Python -> the oldest torch that has wheels for it, and the oldest numpy has none."""

DEMANDS: Mapping[str, tuple[str, str]] = {"torch": TORCH, "numpy": NUMPY}
"""Package -> the oldest and the newest release that was tested."""

MISBEHAVING: Mapping[str, tuple[str, str]] = {
    "2.14": (
        "a process that imports a second tree under the same module names cannot compile it: torch keeps the modules "
        'of the first ("Guard failed on the same frame it was created")',
        "forecast with each tree in a process of its own, as toto-patch does",
    ),
}
"""First torch that does it -> what it does wrong, and what to do; it holds for those after it."""


def install_hint(extra: str = "") -> str:
    """What to type to get this program, with an extra of pyproject.toml if one is named. No package index has it."""
    wanted = f"'.[{extra}]'" if extra else "."
    return f"in a clone of toto-patch: pip install {wanted}"


EXTRAS: Mapping[str, frozenset[str]] = {
    "runtime": frozenset(
        {
            "torch",
            "numpy",
            "einops",
            "jaxtyping",
            "rotary_embedding_torch",
            "gluonts",
            "toolz",
            "lightning",
            "scipy",
            "huggingface_hub",
            "safetensors",
        }
    ),
    "plot": frozenset({"matplotlib"}),
    "monitor": frozenset({"prometheus_client"}),
    "series": frozenset({"statsmodels", "pmdarima"}),
}
"""Extra of pyproject.toml -> what it brings, by the names that programs import."""


def hint_for(module: str) -> str | None:
    """How to install what brings a module, ``None`` where no extra does: then to miss it is a fault of ours."""
    package = module.partition(".")[0]
    return next((install_hint(extra) for extra, brings in EXTRAS.items() if package in brings), None)


def missing(*packages: str) -> list[str]:
    """Those that this Python cannot find; nothing is imported."""
    return [package for package in packages if importlib.util.find_spec(package) is None]


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a release: ``2.13.0+cpu`` and ``2.13.0rc1`` are (2, 13, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def installed() -> dict[str, str | None]:
    """Package -> the version that this Python has, ``None`` where it has none; nothing is imported."""
    found: dict[str, str | None] = {}
    for name in DEMANDS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def concerns(python: str, packages: Mapping[str, str | None]) -> list[str]:
    """What to know about these versions, in sentences; empty where all of them were tested.

    Args:
        python: a version of Python.
        packages: those of ``installed()``.
    """
    told = []
    for name, version, (oldest, newest) in (
        ("Python", python, PYTHON), *((name, packages.get(name), DEMANDS[name]) for name in DEMANDS)
    ):  # fmt: skip
        if version is None:
            continue
        if numbers(version)[:2] < numbers(oldest)[:2]:
            told.append(f"{name} {version} is older than {oldest}, the oldest that toto-patch supports")
        elif numbers(version)[:2] > numbers(newest)[:2]:  # a third number mends, it does not change
            told.append(
                f"{name} {version} is newer than {newest}, the newest that this toto-patch was tested with: before you "
                "rely on it run `toto-patch env test` and `toto-patch verify-only --numerics`"
            )
    torch = packages.get("torch")
    for since, (wrong, instead) in MISBEHAVING.items():
        if torch is not None and numbers(torch) >= numbers(since):
            told.append(f"torch {torch}: {wrong}; {instead}")
    return told


def report() -> dict[str, object]:
    """The versions here, those supported, and what to know about them."""
    python = ".".join(map(str, sys.version_info[:3]))
    packages = installed()
    supported = {name: list(bounds) for name, bounds in {"python": PYTHON, **DEMANDS}.items()}
    return {"versions": {"python": python, **packages}, "supported": supported, "concerns": concerns(python, packages)}


def short_suites() -> list[list[str]]:
    """What to install beside the project for each run of the short suite, for this Python: torch, and what fits it."""
    oldest = [f"torch=={TORCH[0]}", f"numpy=={NUMPY[0]}"]
    for since, torch in FROM_PYTHON:
        if sys.version_info[:2] >= since:
            oldest = [f"torch=={torch}"]
            break
    return [oldest, [f"torch=={BETWEEN}"]]


if __name__ == "__main__":
    print("\n".join(" ".join(wanted) for wanted in short_suites()))
