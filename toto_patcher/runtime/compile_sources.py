"""The settings of torch.compile: which source names each, and which places hold it. Imports torch when it is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toto_patcher.errors import InputError, UsageError
from toto_patcher.runtime import environment as env
from toto_patcher.runtime.environment import Origin, Variable
from toto_patcher.runtime.ledger import Ledger
from toto_patcher.runtime.places import Exported, Place, TorchSetting
from toto_patcher.supported import install_hint

_DYNAMO, _INDUCTOR = "torch._dynamo.config", "torch._inductor.config"
# Torch's own values: another one was assigned by somebody.
_TORCH_LIMIT, _TORCH_SCALARS = 8, False


@dataclass(frozen=True)
class Sources:
    """Where settings are named: the caller's arguments, the user's environment, the preset."""

    arguments: Mapping[str, Any]
    environ: Mapping[str, str]
    preset: Mapping[str, Any]

    def first(self, name: str, variable: Variable, default: Any, assigned: Any = None) -> tuple[Any, Origin]:
        """The first source that names a setting; ``assigned`` is what somebody assigned to torch's configuration."""
        if (argument := self.arguments.get(name)) is not None:
            return _checked(name, argument, variable), "argument"
        if (found := env.read(variable, self.environ)) is not None:
            return found, "environment"
        if name in self.preset:
            return self.preset[name], "preset"
        return (default, "default") if assigned is None else (assigned, "torch")


@dataclass(frozen=True)
class Wanted:
    """One setting, and the places that shall hold it; the first is the one that decides."""

    name: str
    value: Any
    origin: Origin
    places: tuple[Place, ...]

    def targets(self) -> Iterator[tuple[Place, Any]]:
        """What to write where. A variable that the user has set stays as it is spelled."""
        for place in self.places:
            if not isinstance(place, Exported):
                yield place, self.value
            elif self.value is not None and self.origin != "environment":
                yield place, str(int(self.value)) if isinstance(self.value, bool) else str(self.value)


def choose_settings(sources: Sources, ledger: Ledger) -> Iterator[Wanted]:
    """Every setting with its value and its origin; nothing is written.

    Raises:
        InputError: a source names a value that the setting cannot have.
    """

    def assigned(place: TorchSetting, own: Any) -> Any:
        """What somebody assigned to torch's configuration; ``None`` where it has torch's own value."""
        theirs = ledger.theirs(place)
        return None if theirs == own else theirs

    yield Wanted("enabled", *sources.first("enabled", env.ENABLE, True), (Exported(env.ENABLE.name),))
    yield Wanted("mode", *sources.first("mode", env.MODE, env.DEFAULT_MODE), (Exported(env.MODE.name),))
    backend, origin = sources.first("backend", env.BACKEND, env.DEFAULT_BACKEND)
    yield Wanted("backend", _known_backend(backend), origin, (Exported(env.BACKEND.name),))

    place = _existing("recompile_limit", "cache_size_limit")
    limit, origin = sources.first("recompile_limit", env.LIMIT, env.DEFAULT_LIMIT, assigned(place, _TORCH_LIMIT))
    yield Wanted("recompile_limit", limit, origin, (place,))
    place = _existing("accumulated_recompile_limit", "accumulated_cache_size_limit")
    if place.exists():  # of all copies of one function together: where it is smaller, it is the one that is hit
        theirs = ledger.theirs(place)
        larger = theirs < limit
        yield Wanted("accumulated_recompile_limit", max(theirs, limit), origin if larger else "torch", (place,))

    place = TorchSetting(_DYNAMO, "capture_scalar_outputs")
    scalars, origin = sources.first(place.name, env.SCALARS, True, assigned(place, _TORCH_SCALARS))
    yield Wanted(place.name, scalars, origin, (place, Exported(env.SCALARS.name)))
    cache, origin = sources.first("cache_dir", env.CACHE, None)
    if cache is not None and Path(cache).is_file():
        raise InputError(f"the cache folder {cache} is a file", hint="Name a folder; torch makes it.")
    yield Wanted("cache_dir", cache, origin, (Exported(env.CACHE.name),))
    place = TorchSetting(_INDUCTOR, "emulate_precision_casts")
    if sources.preset.get(place.name) and place.exists():
        yield Wanted(place.name, True, "preset", (place,))


def _checked(name: str, value: Any, variable: Variable) -> Any:
    """An argument of the type that the variable's texts stand for."""
    kind, words = _KINDS.get(name, (str, "a text"))
    if type(value) is not kind:
        raise InputError(f"{name} is {value!r}, expected {words}")
    return value if kind is bool else variable.parse(name, str(value))


_KINDS: Mapping[str, tuple[type, str]] = {
    "recompile_limit": (int, "a whole number, at least 1"),
    "capture_scalar_outputs": (bool, "True or False"),
}


def _existing(*names: str) -> TorchSetting:
    """The setting by the name that the installed torch has for it; the last one, where it has none of them."""
    places = [TorchSetting(_DYNAMO, name) for name in names]
    return next((place for place in places if place.exists()), places[-1])


def import_torch() -> str:
    """Imports torch's compiler; returns the cache folder that torch itself chooses and, at times, exports."""
    exported = os.environ.get(env.CACHE.name)
    try:
        importlib.import_module(_DYNAMO)
        folder = importlib.import_module("torch._inductor.runtime.cache_dir_utils").default_cache_dir()
    except OSError:  # nowhere to keep compiled code: the pipeline says so
        folder = ""
    except ImportError as error:
        raise UsageError(
            f"compiling needs torch, which cannot be imported: {error}", hint=install_hint("runtime")
        ) from error
    if exported is None:
        os.environ.pop(env.CACHE.name, None)  # importing is enough for torch to export its choice
    return str(folder)


def _known_backend(name: str) -> str:
    if name != env.DEFAULT_BACKEND:
        dynamo = importlib.import_module("torch._dynamo")
        if name not in dynamo.list_backends(exclude_tags=()):
            raise InputError(f"torch has no backend {name!r}", hint=f"There are {', '.join(dynamo.list_backends())}.")
    return name


def without_effect(environ: Mapping[str, str]) -> Iterator[str]:
    """What is set without effect, in words."""
    for name, instead in env.IGNORED.items():
        if environ.get(name):
            yield f"{name} is set, but torch.compile does not read it: {instead}"
    for name, (since, module, attribute) in env.NEWER.items():
        if environ.get(name) and not TorchSetting(module, attribute).exists():
            yield f"{name} is set, but only torch {since} and newer read it"
    for name in env.TORCH_OFF:
        if environ.get(name) == "1":
            yield f"{name}=1: torch compiles nothing, whatever is set here; {env.DISABLE.name}=1 is the switch for this"
