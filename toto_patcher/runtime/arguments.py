"""Arguments of the pipeline, checked."""

from __future__ import annotations

import operator
from typing import Any

import torch

from toto_patcher.errors import InputError
from toto_patcher.runtime import environment
from toto_patcher.runtime.drawing import Compiler

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device(device_map: str | torch.device | None) -> torch.device:
    """The device to run on.

    Raises:
        InputError: it is unknown, or not there.
    """
    if device_map is None or device_map == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(device_map)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"unknown device {device_map!r}", hint='Use "cpu", "cuda" or "cuda:0".') from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"Toto does not run on the device {device_map!r}", hint='Use "cpu", "cuda" or "cuda:0".')
    if device.type == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = (torch.cuda.current_device() if count else 0) if device.index is None else device.index
    if number >= count:
        raise InputError(f"there is no device {device_map!r}: torch sees {count} GPUs", hint='Use device_map="cpu".')
    return torch.device("cuda", number)


def dtype(name: str, given: torch.dtype | str | None, *, auto: bool = False) -> torch.dtype | None:
    """The dtype to compute in, ``None`` where none is named; InputError where it is another than these."""
    if given is None or (auto and given == "auto"):
        return None
    found = given if isinstance(given, torch.dtype) else DTYPES.get(str(given).removeprefix("torch."))
    if found not in DTYPES.values():
        raise InputError(f"{name} is {given!r}, expected float32 or bfloat16" + (' or "auto"' if auto else ""))
    return found


def count(name: str, given: Any, *, least: int = 1) -> int:
    """A whole number of things; InputError where it is none, or too small."""
    try:
        number = operator.index(given)
    except TypeError:
        number = None
    if number is None or isinstance(given, bool) or number < least:
        raise InputError(f"{name} is {given!r}, expected a whole number, at least {least}")
    return number


def compiler(choice: environment.Choice) -> Compiler:
    """How to compile; InputError for a backend that torch does not know."""
    backend = choice.backend or environment.DEFAULT_BACKEND
    if backend != environment.DEFAULT_BACKEND:
        import torch._dynamo

        known = torch._dynamo.list_backends(exclude_tags=())
        if backend not in known:
            raise InputError(f"unknown compile backend {backend!r}", hint=f"Use one of: {', '.join(known)}.")
    return Compiler(choice.mode, backend)
