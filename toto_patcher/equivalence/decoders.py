"""What is particular to trees whose forecaster has a decoder of its own. Only for child processes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from toto_patcher.equivalence.case import Case

if TYPE_CHECKING:
    from toto_patcher.equivalence.tree import Tree

LEFT = "forecasting on upstream's path: "
"""Beginning of what a decoder logs where it leaves a forecast to the original's code."""
REWEIGHTED = 1.05
"""What an in-place change of weights multiplies them by."""
BOUND = "ROWS"
"""Of the decoder's module: how many samples times series it takes at once."""


def has_decoder(tree: Tree) -> bool:
    """Whether the tree's forecaster has a decoder."""
    return hasattr(tree.forecaster, "_decoding")


def seed_exact(forecaster: Any) -> None:
    """Lets a forecaster that can choose draw what the original draws from the same seed."""
    if hasattr(type(forecaster), "sampler"):
        forecaster.sampler = "seed-exact"


def last_patch_only(backbone: Any) -> bool:
    """Whether a backbone gives the distribution of the last patch only, where it has a cache."""
    return hasattr(type(backbone), "every_patch")


@contextlib.contextmanager
def every_patch(backbone: Any) -> Iterator[None]:
    """Lets such a backbone give that of every patch, as the original does."""
    backbone.every_patch = True
    try:
        yield
    finally:
        backbone.every_patch = False


def reweight(model: Any) -> None:
    """Changes weights in place, of a layer and of the head, as fine-tuning does."""
    attention = model.transformer.layers[0].attention
    for part in (attention.wQKV, attention.wO, model.unembed, model.output_distribution.loc_proj):
        part.weight.mul_(REWEIGHTED)


class Watch(logging.Handler):
    """Notes for each case why forecasts were left to the original's code, where the tree has a decoder.

    Attributes:
        left: case -> reasons; a case that was decoded has none.
    """

    def __init__(self, tree: Tree) -> None:
        super().__init__(logging.WARNING)
        self.left: dict[str, list[str]] = {}
        self._tree, self._case = tree, ""

    @contextlib.contextmanager
    def case(self, case: Case) -> Iterator[None]:
        """Watches one case that makes forecasts, and sets the decoder's bound as the case wants it."""
        if case.kind not in ("point", "samples", "draws") or not has_decoder(self._tree):
            yield
            return
        self._case = case.name
        self.left[case.name] = []
        bounds = [module for module in self._tree.modules().values() if case.rows and BOUND in vars(module)]
        saved = [vars(module)[BOUND] for module in bounds]
        for module in bounds:
            setattr(module, BOUND, case.rows)
        logging.getLogger().addHandler(self)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(self)
            for module, value in zip(bounds, saved, strict=True):
                setattr(module, BOUND, value)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the reason of a record that gives one."""
        before, found, reason = record.getMessage().partition(LEFT)
        if found and not before:
            self.left[self._case].append(reason)
