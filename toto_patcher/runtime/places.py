"""The two kinds of place that hold a setting: a variable of the environment, and an attribute of torch's configuration.

Each can be read, written, and put back exactly as it was.
"""

from __future__ import annotations

import importlib
import os
from contextvars import ContextVar
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol


class Place(Protocol):
    """Where a setting is kept. Places are equal when they are the same place."""

    def get(self) -> Any:
        """The value that holds now; ``None`` where there is none."""

    def set(self, value: Any) -> None:
        """Makes a value hold."""

    def save(self) -> Any:
        """What ``restore`` needs to put the place back as it is now."""

    def restore(self, saved: Any) -> None:
        """Puts back what ``save`` returned."""


@dataclass(frozen=True)
class Exported:
    """A variable of this process's environment; its children inherit it."""

    name: str

    def __str__(self) -> str:
        return self.name

    def get(self) -> str | None:
        """See Place."""
        return os.environ.get(self.name)

    def set(self, value: str | None) -> None:
        """See Place; ``None`` removes it."""
        if value is None:
            os.environ.pop(self.name, None)
        else:
            os.environ[self.name] = value

    save, restore = get, set


@dataclass(frozen=True)
class TorchSetting:
    """An attribute of one of torch's configuration modules, ``torch._dynamo.config`` say. Imports torch.

    In newer torch (2.13) a value that is assigned to such a module holds in the assigning thread only: a service that
    loads its model in one thread and forecasts in others would compile there with torch's own defaults. So the default
    is set, which holds in every thread, and beside it what this thread may have assigned before.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def _config(self) -> Any:
        return importlib.import_module(self.module)

    def _entry(self) -> Any:
        """Torch's record of a setting that each thread has for itself; ``None`` where all threads share the value."""
        entry = getattr(self._config, "_config", {}).get(self.name)
        return entry if isinstance(getattr(entry, "user_override", None), ContextVar) else None

    def exists(self) -> bool:
        """Whether the installed torch has it."""
        try:
            self.get()
        except AttributeError:
            return False
        return True

    def get(self) -> Any:
        """See Place."""
        return reduce(getattr, self.name.split("."), self._config)

    def set(self, value: Any) -> None:
        """See Place."""
        entry = self._entry()
        assigned = None if entry is None else entry.user_override.get()
        setattr(self._config, self.name, value)  # which also tells torch that its configuration changed
        if entry is not None:
            entry.default = value
            if not isinstance(assigned, type(value)):  # torch's mark for "not assigned"
                entry.user_override.set(assigned)

    def save(self) -> Any:
        """See Place."""
        entry = self._entry()
        return self.get() if entry is None else (entry.default, entry.user_override.get())

    def restore(self, saved: Any) -> None:
        """See Place."""
        entry = self._entry()
        if entry is None:
            setattr(self._config, self.name, saved)
            return
        default, assigned = saved
        setattr(self._config, self.name, default)
        entry.default = default
        entry.user_override.set(assigned)
