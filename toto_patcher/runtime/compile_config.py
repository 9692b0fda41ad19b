"""Sets what torch.compile and the pipeline read, and says what was set and from where; all of it can be undone.

    import toto_compile_config            # or: from toto_patcher.runtime import compile_config

    applied = toto_compile_config.apply(verbose=True)       # before the model is loaded
    applied.undo()

The first of these that names a setting decides: the argument, the environment, the preset, what was assigned to torch's
configuration before, the default. Each call starts from what the user set: earlier calls leave no trace in later ones.
docs/environment.md is the reference.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toto_patcher.errors import InputError
from toto_patcher.runtime import environment as env
from toto_patcher.runtime.compile_sources import Sources, choose_settings, import_torch, without_effect
from toto_patcher.runtime.environment import Origin
from toto_patcher.runtime.ledger import Ledger, Page

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
        "mode": mode,
        "backend": backend,
        "recompile_limit": recompile_limit,
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
            if environ.get(env.CACHE.name) == import_torch():
                del environ[env.CACHE.name]  # torch exported it, not the user
            wanted = list(choose_settings(Sources(arguments, environ, PRESETS.get(preset or "", {})), _LEDGER))
            settings = tuple(
                Setting(each.name, each.value, each.origin, each.places[0].get(), ", ".join(map(str, each.places)))
                for each in wanted
            )
            page = _LEDGER.write({place: value for each in wanted for place, value in each.targets()})
            applied = Applied(bool(settings[0].value), preset, settings, tuple(without_effect(environ)), page)
    for message in applied.warnings:
        warnings.warn(message, NoEffectWarning, stacklevel=2)
    if verbose:
        print(applied.table())
    return applied


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
