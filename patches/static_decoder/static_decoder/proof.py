"""Proves before each forecast that all a decoder relied on when it was made still holds."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from itertools import chain
from operator import is_
from typing import Any

import torch

from .origin import Origin
from .support import GLOBAL_HOOKS, HOOKS


class Proof:
    """What the decoder relied on, read once into flat lists, and compared as a whole by ``holds``.

    Compared are: the class and the attributes of every module and of the scaler (so also training flags, and a
    ``forward`` of an instance), their children, parameters and buffers by identity, the memory behind these, hooks of
    modules and hooks for all modules, and the code of all that upstream's path would run. Each comparison runs in C,
    and a GPU computes meanwhile.

    It keeps a view of each tensor, so that no address is given to another one while it holds.
    """

    def __init__(self, backbone: Any, origin: Origin) -> None:
        modules = list(backbone.modules())
        self._origin = origin
        owners = [*modules[1:], backbone.scaler]  # not the backbone itself: it would never go
        self._backbone, self._owners, self._classes = weakref.ref(backbone), owners, [type(owner) for owner in owners]
        self._class = type(backbone)
        self._attributes = [vars(backbone), *map(vars, owners)]
        self._attributes_then = [dict(attributes) for attributes in self._attributes]
        self._tables = [
            table for module in modules for table in (module._modules, module._parameters, module._buffers) if table
        ]
        self._entries_then = list(self._entries())
        self._tensors = [entry for entry in self._entries_then if isinstance(entry, torch.Tensor)]
        self._views = [tensor.detach() for tensor in self._tensors]
        self._hooks = [getattr(module, hooks) for module in modules for hooks in HOOKS] + GLOBAL_HOOKS

    def _entries(self) -> Iterable[Any]:
        return chain.from_iterable(map(dict.values, self._tables))

    def holds(self) -> bool:
        """Whether nothing changed but, perhaps, the values in the tensors."""
        try:
            entries = list(self._entries())
            return (
                not any(self._hooks)
                and len(entries) == len(self._entries_then)
                and all(map(is_, entries, self._entries_then))
                and all(map(torch.Tensor.is_set_to, self._tensors, self._views))
                and all(map(is_, map(type, self._owners), self._classes))
                and type(self._backbone()) is self._class
                and self._attributes == self._attributes_then
                and self._origin.holds()
            )
        except Exception:  # what cannot be compared is not what it was
            return False
