"""Sets what torch.compile and the pipeline read, and says what was set and from where; all of it can be undone.

    import toto_compile_config            # or: from toto_patcher.runtime import compile_config

    applied = toto_compile_config.apply(verbose=True)       # before the model is loaded
    applied.undo()

The first of these that names a setting decides: the argument, the environment, the preset, what was assigned to torch's
configuration before, the default. Each call starts from what the user set: earlier calls leave no trace in later ones.
docs/environment.md is the reference.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toto_patcher.errors import InputError, UsageError
from toto_patcher.runtime import environment as env
from toto_patcher.runtime.environment import Origin, Variable
from toto_patcher.runtime.ledger import Ledger, Page
from toto_patcher.runtime.places import Exported, Place, TorchSetting

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Autotuned kernels and CUDA graphs: minutes before the first forecast, then the fastest there is.
    "maximum-performance": {"mode": "max-autotune"},
    # The defaults, by name: CUDA graphs, no autotuning.
    "balanced": {"mode": env.DEFAULT_MODE},
    # The same graphs, breaks and recompilations, run by Python: starts at once, its stack traces name the source, and
    # torch's own limit lets a function that is compiled over and over show itself.
    "debugging": {"mode": "default", "backend": "eager", "recompile_limit": 8},
    # No autotuned kernels, and intermediate results in 16 bits are rounded where eager rounds them.
    "accuracy-first": {"mode": "default", "emulate_precision_casts": True},
}
"""Name -> the settings that it chooses; the defaults hold for the others."""

_DYNAMO, _INDUCTOR = "torch._dynamo.config", "torch._inductor.config"
# Torch's own values: another one was assigned by somebody.
_TORCH_LIMIT, _TORCH_SCALARS = 8, False
_LEDGER = Ledger()


class NoEffectWarning(UserWarning):
    """Something is set that has no effect in the installed torch."""


@dataclass(frozen=True)
class Setting:
    """One setting in force.

    Attributes:
        name: ``mode``, ``recompile_limit``, ... as ``apply`` calls it.
        value: what holds now; ``None`` where it is left to torch.
        origin: which source named it.
        before: what held before the call; ``None`` where nothing did.
        where: the variable or the attribute of torch that holds it.
    """

    name: str
    value: Any
    origin: Origin
    before: Any
    where: str


@dataclass(frozen=True)
class Applied:
    """What ``apply`` set.

    Attributes:
        enabled: whether a pipeline compiles that is not told otherwise.
        preset: the preset that was asked for.
        settings: every setting, also those that had their value already.
        warnings: what is set without effect, in words; each was also issued as a NoEffectWarning.
    """

    enabled: bool
    preset: str | None
    settings: tuple[Setting, ...]
    warnings: tuple[str, ...] = ()
    _page: Page = field(default_factory=Page, repr=False, compare=False)

    def __getitem__(self, name: str) -> Setting:
        for setting in self.settings:
            if setting.name == name:
                return setting
        raise KeyError(name)

    def table(self) -> str:
        """The settings as plain text, one a line."""
        rows = [("setting", "value", "from", "before", "where")]
        rows += [(s.name, _shown(s.value), s.origin, _shown(s.before), s.where) for s in self.settings]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        if self["enabled"].origin == "disabled":
            lines.append(f"Compilation is off: {env.DISABLE.name} is set. Torch's settings were left alone.")
        return "\n".join(lines)

    def undo(self) -> None:
        """Puts back exactly what was before this call, and with it what later calls set. The second time, nothing."""
        _LEDGER.undo(self._page)


def apply(
    verbose: bool = False,
    *,
    preset: str | None = None,
    mode: str | None = None,
    backend: str | None = None,
    recompile_limit: int | None = None,
    capture_scalar_outputs: bool | None = None,
    cache_dir: str | Path | None = None,
) -> Applied:
    """Sets torch's compile settings and the variables that a pipeline reads; before or after torch was imported.

    Args:
        verbose: print what was set and from where, on stdout.
        preset: a name in ``PRESETS``.
        mode: of torch.compile, one of ``environment.MODES``.
        backend: of torch.compile.
        recompile_limit: how often one function may be compiled again before it runs uncompiled, at least 1.
        capture_scalar_outputs: whether ``.item()`` is captured in a graph rather than breaking it.
        cache_dir: the folder of compiled kernels; torch makes it.

    Returns:
        What was set; with TOTO_DISABLE_COMPILE=1 nothing was.

    Raises:
        InputError: an argument or a variable has a value that it cannot have; nothing was set.
        UsageError: torch cannot be imported.
    """
    arguments = {
        "mode": None if mode is None else env.MODE.parse("mode", mode),
        "backend": backend,
        "recompile_limit": None
        if recompile_limit is None
        else env.LIMIT.parse("recompile_limit", str(recompile_limit)),
        "capture_scalar_outputs": capture_scalar_outputs,
        "cache_dir": None if cache_dir is None else str(Path(cache_dir).expanduser().absolute()),
    }
    if preset is not None and preset not in PRESETS:
        raise InputError(f"no preset {preset!r}", hint=f"There are {', '.join(PRESETS)}.")
    with _LEDGER.lock:
        environ = _LEDGER.environ()
        if env.disabled(environ):
            before = os.environ.get(env.ENABLE.name)
            applied = Applied(False, preset, (Setting("enabled", False, "disabled", before, env.DISABLE.name),))
        else:
            _import_torch()
            wanted = list(_wanted(_Sources(arguments, environ, PRESETS.get(preset or "", {}))))
            before_each = {each.name: each.places[0].get() for each in wanted}
            page = _LEDGER.write({place: value for each in wanted for place, value in each.targets()})
            settings = tuple(
                Setting(each.name, each.value, each.origin, before_each[each.name], ", ".join(map(str, each.places)))
                for each in wanted
            )
            applied = Applied(bool(settings[0].value), preset, settings, tuple(_without_effect(environ)), page)
    for message in applied.warnings:
        warnings.warn(message, NoEffectWarning, stacklevel=2)
    if verbose:
        print(applied.table())
    return applied


@dataclass(frozen=True)
class _Sources:
    arguments: Mapping[str, Any]
    environ: Mapping[str, str]
    preset: Mapping[str, Any]

    def first(self, name: str, variable: Variable, default: Any, assigned: Any = None) -> tuple[Any, Origin]:
        """The first source that names a setting; ``assigned`` is what somebody assigned to torch's configuration."""
        if self.arguments.get(name) is not None:
            return self.arguments[name], "argument"
        if (found := env.read(variable, self.environ)) is not None:
            return found, "environment"
        if name in self.preset:
            return self.preset[name], "preset"
        return (default, "default") if assigned is None else (assigned, "torch")


@dataclass(frozen=True)
class _Wanted:
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


def _wanted(sources: _Sources) -> Iterator[_Wanted]:
    yield _Wanted("enabled", *sources.first("enabled", env.ENABLE, True), (Exported(env.ENABLE.name),))
    yield _Wanted("mode", *sources.first("mode", env.MODE, env.DEFAULT_MODE), (Exported(env.MODE.name),))
    backend, origin = sources.first("backend", env.BACKEND, env.DEFAULT_BACKEND)
    yield _Wanted("backend", _known_backend(backend), origin, (Exported(env.BACKEND.name),))

    place = _existing("recompile_limit", "cache_size_limit")
    assigned = _assigned(place, _TORCH_LIMIT)
    limit, origin = sources.first("recompile_limit", env.LIMIT, env.DEFAULT_LIMIT, assigned)
    yield _Wanted("recompile_limit", limit, origin, (place,))
    place = _existing("accumulated_recompile_limit", "accumulated_cache_size_limit")
    if place.exists():  # of all copies of one function together: where it is smaller, it is the one that is hit
        theirs = _LEDGER.theirs(place)
        larger = theirs < limit
        yield _Wanted("accumulated_recompile_limit", max(theirs, limit), origin if larger else "torch", (place,))

    place = TorchSetting(_DYNAMO, "capture_scalar_outputs")
    scalars, origin = sources.first(place.name, env.SCALARS, True, _assigned(place, _TORCH_SCALARS))
    yield _Wanted(place.name, scalars, origin, (place, Exported(env.SCALARS.name)))
    cache, origin = sources.first("cache_dir", env.CACHE, None)
    if cache is not None and Path(cache).is_file():
        raise InputError(f"the cache folder {cache} is a file", hint="Name a folder; torch makes it.")
    yield _Wanted("cache_dir", cache, origin, (Exported(env.CACHE.name),))
    place = TorchSetting(_INDUCTOR, "emulate_precision_casts")
    if sources.preset.get(place.name) and place.exists():
        yield _Wanted(place.name, True, "preset", (place,))


def _existing(*names: str) -> TorchSetting:
    """The setting by the name that the installed torch has for it; the last one, where it has none of them."""
    places = [TorchSetting(_DYNAMO, name) for name in names]
    return next((place for place in places if place.exists()), places[-1])


def _assigned(place: TorchSetting, own: Any) -> Any:
    """What somebody assigned to torch's configuration; ``None`` where it has torch's own value."""
    theirs = _LEDGER.theirs(place)
    return None if theirs == own else theirs


def _import_torch() -> None:
    try:
        importlib.import_module(_DYNAMO)
    except ImportError as error:
        raise UsageError(
            f"compiling needs torch, which cannot be imported: {error}", hint="pip install 'toto-patch[runtime]'"
        ) from error


def _known_backend(name: str) -> str:
    if name != env.DEFAULT_BACKEND:
        known = importlib.import_module("torch._dynamo").list_backends(exclude_tags=())
        if name not in known:
            raise InputError(f"torch has no backend {name!r}", hint=f"There are {', '.join(known)}.")
    return name


def _without_effect(environ: Mapping[str, str]) -> Iterator[str]:
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


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
