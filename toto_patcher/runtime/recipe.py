"""How a pipeline was made, which is what of it travels to another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How a pipeline was made.

    Attributes:
        arguments: of ``from_pretrained``.
        weights: address and version of each weight then.
    """

    arguments: dict[str, Any]
    weights: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, arguments: dict[str, Any], model: Any) -> Recipe:
        """The recipe of a model that was just loaded."""
        return cls(arguments, cls._state(model))

    def holds(self, model: Any) -> bool:
        """Whether the model has the weights that were loaded. Writing to ``.data`` cannot be seen."""
        return self._state(model) == self.weights

    @staticmethod
    def _state(model: Any) -> tuple[tuple[int, int], ...]:
        return tuple((tensor.data_ptr(), tensor._version) for tensor in model.parameters())
