"""The environment variables of compilation: their names, their values, and which of the sources of a setting wins.

Pure: imports no torch, reads and writes nothing but the mapping it is given. docs/environment.md is the reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from toto_patcher.errors import InputError

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
DEFAULT_MODE = "reduce-overhead"
DEFAULT_BACKEND = "inductor"
DEFAULT_LIMIT = 256

Origin = Literal["disabled", "argument", "environment", "preset", "torch", "default"]
"""``torch``: set on torch's own configuration before; ``disabled``: TOTO_DISABLE_COMPILE decides."""

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _switch(name: str, text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise InputError(f"{name} is {text!r}, expected 1 or 0", hint=f"export {name}=1, or unset it.")
    return text.lower() in _TRUE


def _mode(name: str, text: str) -> str:
    if text not in MODES:
        raise InputError(f"{name} is {text!r}, expected {', '.join(MODES[:-1])} or {MODES[-1]}")
    return text


def _limit(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise InputError(f"{name} is {text!r}, expected a whole number, at least 1")
    return int(text)


def _text(name: str, text: str) -> str:
    return text


@dataclass(frozen=True)
class Variable:
    """One variable.

    Attributes:
        name: as it is exported.
        values: what it may be, in words.
        default: what holds where it is unset, in words.
        effect: what it does, one sentence.
        reader: who reads it: ``toto-patch``, ``torch``, or both.
        parse: the value of a text; raises InputError.
    """

    name: str
    values: str
    default: str
    effect: str
    reader: str
    parse: Callable[[str, str], Any]


DISABLE = Variable(
    "TOTO_DISABLE_COMPILE", "1 or 0", "0", "Nothing is compiled; wins over everything, arguments too.",
    "toto-patch", _switch,
)  # fmt: skip
ENABLE = Variable(
    "TOTO_COMPILE", "1 or 0", "1 after apply(), else 0", "Whether a pipeline compiles that is not told otherwise.",
    "toto-patch", _switch,
)  # fmt: skip
MODE = Variable("TOTO_COMPILE_MODE", ", ".join(MODES), DEFAULT_MODE, "The mode of torch.compile.", "toto-patch", _mode)
BACKEND = Variable(
    "TOTO_COMPILE_BACKEND", "a backend of torch.compile", DEFAULT_BACKEND, "The backend of torch.compile.",
    "toto-patch", _text,
)  # fmt: skip
LIMIT = Variable(
    "TORCH_DYNAMO_RECOMPILE_LIMIT", "a whole number", str(DEFAULT_LIMIT),
    "How often one function may be compiled again before it runs uncompiled. Torch does not read it; apply() does.",
    "toto-patch", _limit,
)  # fmt: skip
SCALARS = Variable(
    "TORCHDYNAMO_CAPTURE_SCALAR_OUTPUTS", "1 or 0", "1 after apply(), else 0",
    "Whether `.item()` is captured in a graph rather than breaking it.", "torch, toto-patch", _switch,
)  # fmt: skip
CACHE = Variable(
    "TORCHINDUCTOR_CACHE_DIR", "a folder", "a temporary folder of torch's",
    "Where compiled kernels are kept for the next process.", "torch, toto-patch", _text,
)  # fmt: skip
VARIABLES = (DISABLE, ENABLE, MODE, BACKEND, LIMIT, SCALARS, CACHE)

IGNORED = {
    "TORCHDYNAMO_RECOMPILE_LIMIT": "set TORCH_DYNAMO_RECOMPILE_LIMIT, which apply() reads",
    "TORCHDYNAMO_CACHE_SIZE_LIMIT": "set TORCH_DYNAMO_RECOMPILE_LIMIT, which apply() reads",
    "TORCH_DYNAMO_CACHE_SIZE_LIMIT": "set TORCH_DYNAMO_RECOMPILE_LIMIT, which apply() reads",
    "TORCH_COMPILE_MODE": "set TOTO_COMPILE_MODE",
    "TORCH_COMPILE_BACKEND": "set TOTO_COMPILE_BACKEND",
    "TORCH_COMPILE_CACHE_DIR": "set TORCHINDUCTOR_CACHE_DIR",
    "TORCH_DYNAMO_CAPTURE_SCALAR_OUTPUTS": "set TORCHDYNAMO_CAPTURE_SCALAR_OUTPUTS",
    "TORCHINDUCTOR_CAPTURE_SCALAR_OUTPUTS": "set TORCHDYNAMO_CAPTURE_SCALAR_OUTPUTS",
    "TORCHINDUCTOR_CUDAGRAPH_TREES": "set TOTO_COMPILE_MODE=reduce-overhead",
    "TORCHINDUCTOR_TRITON_CUDAGRAPHS": "set TOTO_COMPILE_MODE=reduce-overhead",
}
"""Variables that people set and torch.compile does not read -> what to do instead."""

NEWER = {
    "TORCHINDUCTOR_CUDAGRAPH_OR_ERROR": ("2.9", "torch._inductor.config", "triton.cudagraph_or_error"),
    "TORCH_COMPILE_OVERRIDE_DYNAMO_CONFIGS": ("2.12", "torch._dynamo.config", "debug_dynamo_config_override"),
}
"""Variables that only newer torch reads -> since which release, and the setting that it has then."""

TORCH_OFF = ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE")
"""Torch's own switches: with 1, torch.compile gives back what it was given."""


@dataclass(frozen=True)
class Choice:
    """How to compile.

    Attributes:
        enabled: whether to compile at all.
        mode: of ``torch.compile``; ``None`` where nothing is compiled, or for a backend that has no modes.
        backend: of ``torch.compile``; ``None`` where nothing is compiled.
        origins: ``enabled``, ``mode``, ``backend`` -> where each comes from.
    """

    enabled: bool
    mode: str | None
    backend: str | None
    origins: dict[str, Origin]


def read(variable: Variable, environ: Mapping[str, str]) -> Any:
    """The value of a variable, ``None`` where it is unset or empty.

    Raises:
        InputError: it has a value that it cannot have.
    """
    text = environ.get(variable.name, "").strip()
    return variable.parse(variable.name, text) if text else None


def disabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether TOTO_DISABLE_COMPILE switches everything off."""
    return bool(read(DISABLE, environ))


def choose(
    enabled: bool | None = None,
    mode: str | None = None,
    backend: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Choice:
    """Whether and how to compile: from the arguments, then the environment, then the defaults.

    Raises:
        InputError: an argument or a variable has a value that it cannot have.
    """
    if disabled(environ):  # first, so that the switch works beside a variable that cannot be read
        return Choice(False, None, None, dict.fromkeys(("enabled", "mode", "backend"), "disabled"))
    chosen: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    given = {"enabled": (enabled, ENABLE, False), "mode": (mode, MODE, DEFAULT_MODE)}
    for name, (argument, variable, default) in {**given, "backend": (backend, BACKEND, DEFAULT_BACKEND)}.items():
        if argument is not None:
            chosen[name], origins[name] = argument, "argument"
        else:
            found = read(variable, environ)
            chosen[name], origins[name] = (default, "default") if found is None else (found, "environment")
    if not chosen["enabled"]:
        return Choice(False, None, None, origins)
    _mode("the compile mode", chosen["mode"])
    has_modes = chosen["backend"] == DEFAULT_BACKEND
    return Choice(True, chosen["mode"] if has_modes else None, chosen["backend"], origins)
