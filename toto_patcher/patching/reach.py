"""Which definitions of a class are Toto's own: those that forecaster and backbone reach. Others are left alone."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from toto_patcher.errors import RefusedError
from toto_patcher.patching.checkout import Checkout, Definition
from toto_patcher.patching.imports import Graph
from toto_patcher.patching.syntax import class_statements

# What a class of Toto 1.0 has, by which it is told from another of the same name. More is welcome.
METHODS = {
    "TotoForecaster": {"forecast", "generate_mean", "generate_samples"},
    "TotoBackbone": {"forward", "backbone", "allocate_kv_cache"},
    "KVCache": {"__getitem__", "append", "current_len", "seq_len", "reset"},
    "BaseMultiheadAttention": {"get_qkv", "positional_embedding", "run_attention", "forward"},
    "TimeAwareRotaryEmbedding": {"rotate_queries_and_keys"},
}
ROOTS = ("TotoForecaster", "TotoBackbone")
WRAPPER = "Toto"  # nothing that forecasts reaches it; it is Toto's own where it knows the backbone


@dataclass(frozen=True)
class LeftAlone:
    """A class that has the name of one of Toto's and is none of them.

    Attributes:
        name: of the class.
        path: its file, relative to the root.
        line: of its ``class`` statement.
    """

    name: str
    path: PurePosixPath
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: another class {self.name}, which this Toto does not use, was left alone"


class Reach:
    """What of a checkout is Toto's, worked out once."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout, self.graph = checkout, Graph(checkout)
        self.left: dict[LeftAlone, None] = {}
        self._known: dict[str, list[Definition]] = {}
        self.files: frozenset[PurePosixPath] = frozenset()
        for name in ROOTS:
            with contextlib.suppress(RefusedError):  # said by the patch that needs the class
                self.files |= self.graph.reached(place.path for place in self._fitting(name))

    @classmethod
    def of(cls, checkout: Checkout) -> Reach:
        """The checkout's, which keeps it."""
        found = checkout.kept.setdefault("reach", None) or cls(checkout)
        checkout.kept["reach"] = found
        assert isinstance(found, cls)
        return found

    def definitions(self, name: str) -> list[Definition]:
        """Toto's own definitions of a class, in order of path; what else has the name is noted in ``left``."""
        if name not in self._known:
            self._known[name] = self._own(name)
        return self._known[name]

    def _own(self, name: str) -> list[Definition]:
        every = self._checkout.definitions(name)
        if len(every) < 2 and not self.files:
            return every
        if name == WRAPPER and self.files:
            chosen = [place for place in every if self._knows_backbone(place.path)]
            self._leave(name, every, chosen)
            return chosen
        used = [place for place in every if place.path in self.files]
        if not used:
            return self._fitting(name)
        chosen = [place for place in every if place in used or self._is_second(name, place, used)]
        self._leave(name, every, chosen)
        return chosen

    def _leave(self, name: str, every: Sequence[Definition], chosen: Sequence[Definition]) -> None:
        self.left |= {LeftAlone(name, place.path, place.line): None for place in every if place not in chosen}

    def _knows_backbone(self, path: PurePosixPath) -> bool:
        own = {place.path for place in self.definitions("TotoBackbone")}
        return bool({place for place, _ in self.graph.origins(path, "TotoBackbone")} & own)

    def _is_second(self, name: str, place: Definition, used: Sequence[Definition]) -> bool:
        """Whether an unused definition is a second version of Toto's own, as ``util_optimized.py`` is.

        It has all methods that Toto's has, and stands beside it or takes something from it.
        """
        if name in ROOTS:
            return self._fits(name, place)
        needed = METHODS.get(name) or set.intersection(*(set(self._methods(name, one)) for one in used))
        if not needed or not needed <= self._methods(name, place):
            return False
        return self.is_related(place.path)

    def is_related(self, path: PurePosixPath) -> bool:
        """Whether a file is used by Toto, stands beside a file that is, or takes something from one."""
        return path in self.files or path.parent in {file.parent for file in self.files} or self.imports_own(path)

    def imports_own(self, path: PurePosixPath) -> bool:
        """Whether a file takes something from one that Toto uses, over any number of files."""
        return bool(self.graph.reached([path]) & self.files)

    def _fitting(self, name: str) -> list[Definition]:
        """The definitions that have what Toto's class has; all of them where none has."""
        every = self._checkout.definitions(name)
        fitting = [place for place in every if self._fits(name, place)]
        if not fitting:
            return every
        self._leave(name, every, fitting)
        return fitting

    def _fits(self, name: str, place: Definition) -> bool:
        return METHODS.get(name, set()) <= self._methods(name, place)

    def _methods(self, name: str, place: Definition) -> set[str]:
        for node in class_statements(self._checkout.read(place.path), place.path):
            if node.name == name and node.lineno == place.line:
                return {item.name for item in ast.walk(node) if isinstance(item, ast.FunctionDef)}
        return set()


def definitions(checkout: Checkout, name: str) -> list[Definition]:
    """Toto's own definitions of a class in a tree."""
    return Reach.of(checkout).definitions(name)
