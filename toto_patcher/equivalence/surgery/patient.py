"""What an operation of the check ``surgery`` does to a model, its classes or torch. Only for child processes.

A change draws its particulars (which module, which weights, how) from the operation's own random numbers, so the same
number means the same change in every tree. Whatever it does outside of the model is undone by ``patient.undo``.
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from toto_patcher.equivalence.tree import Tree


@dataclass
class Patient:
    """What a change may change.

    Attributes:
        tree: that the model is of.
        forecaster: of a small model.
        chance: the operation's random numbers.
        undo: what is undone at the operation's end.
        patch: the model's patch size, at first.
        forecast: makes a forecast and gives its values.
        device: of the series that are forecast.
        dtype: likewise.
        extra: what else to compare, by what it is.
    """

    tree: Tree
    forecaster: Any
    chance: random.Random
    undo: contextlib.ExitStack
    patch: int
    forecast: Callable[..., torch.Tensor]
    device: torch.device
    dtype: torch.dtype = torch.float32
    extra: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def model(self) -> Any:
        """The backbone."""
        return self.forecaster.model

    def module(self, *classes: str) -> tuple[str, Any]:
        """One of the modules on the path of a forecast, by chance, and where it is."""
        return self.chance.choice(
            [
                (path, module)
                for path, module in self.model.named_modules()
                if path and (not classes or type(module).__name__ in classes) and type(module) is not nn.ModuleList
            ]
        )

    def put(self, path: str, module: Any) -> None:
        """Puts a module in the place of another of the model."""
        owner, _, name = path.rpartition(".")
        setattr(self.model.get_submodule(owner), name, module.eval() if isinstance(module, nn.Module) else module)

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute of a class or a module of Python until the operation ends."""
        own, before = name in vars(owner), vars(owner).get(name)
        setattr(owner, name, value)
        self.undo.callback(*((setattr, owner, name, before) if own else (delattr, owner, name)))


Change = Callable[[Patient], str]
CHANGES: dict[str, Change] = {}
"""Kind -> what makes a change of that kind and says what it changed."""


def kind(function: Change) -> Change:
    """Decorates a function that makes changes of one kind; its name is the kind's."""
    CHANGES[function.__name__.strip("_").replace("_", "-")] = function
    return function


def smaller(part: Any) -> Any:
    """A result with every number in it smaller: tensors, tuples of them, and upstream's distribution."""
    if isinstance(part, torch.Tensor):
        return part * 0.6 if part.is_floating_point() else part
    if isinstance(part, tuple):
        parts = tuple(map(smaller, part))
        return type(part)(*parts) if hasattr(part, "_fields") else parts
    if isinstance(part, torch.distributions.MixtureSameFamily):
        inner: Any = part.component_distribution
        return type(part)(part.mixture_distribution, type(inner)(inner.df, inner.loc * 0.6, inner.scale))
    return part


def wrapped(function: Any) -> Any:
    """What a tracing library makes of a function, but not quite: what it gives is smaller."""

    @functools.wraps(function)
    def less(*args: Any, **kwargs: Any) -> Any:
        return smaller(function(*args, **kwargs))

    return less


class Interrupted(Exception):  # noqa: N818 - it is no error
    """What a signal's handler raises in the middle of a forecast."""


def interrupted(patient: Patient, part: float) -> None:
    """Makes a forecast and ends it after so much of its calls of the tree's own code."""
    inside, calls, limit = str(patient.tree.root), 0, 0

    def count(frame: Any, event: str, _: Any) -> None:
        nonlocal calls
        if event == "call" and frame.f_code.co_filename.startswith(inside):
            calls += 1
            if limit and calls >= limit:
                sys.setprofile(None)
                raise Interrupted

    for share in (0.0, part):
        limit, calls = int(share * calls), 0
        sys.setprofile(count)
        try:
            patient.forecast(longer=True)
        except Interrupted:
            pass
        finally:
            sys.setprofile(None)
