"""Which series are forecast together, and how many samples of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toto_patcher.runtime.contexts import Context

ROWS = 2048
"""Samples times series times variates that are drawn at once: larger batches are no faster."""
NUMBERS = 1 << 28
"""How many numbers upstream's largest tensor may have, where nobody says how many samples to draw at once: it
un-embeds every point of the context, for every row, to a vector of the model's width. (1 GiB in float32.)"""
SERIES = 32
"""How many series are forecast together at most."""


@dataclass(frozen=True)
class Batch:
    """Series of equal shapes that are forecast together.

    Attributes:
        members: their indices in the order in which they were given.
        slots: of how many series the tensors are; the rest is filled up with copies.
        samples: how many samples of each are drawn at once.
    """

    members: tuple[int, ...]
    slots: int
    samples: int

    def __len__(self) -> int:
        return len(self.members)


def divide(
    contexts: Sequence[Context],
    num_samples: int,
    samples_per_batch: int | None,
    *,
    width: int | None,
    fixed: bool,
) -> list[Batch]:
    """Divides series into batches, each of one length.

    Args:
        contexts: the series.
        num_samples: to draw of each.
        samples_per_batch: of each that are drawn at once; ``None``: as many as run well.
        width: of the model, if it un-embeds every point; ``None`` for a decoder, which does not.
        fixed: the shapes of a batch are compiled or recorded, so there should be few different ones: the number of
            series is a power of two, and the last batch of a length as large as the others.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, context in enumerate(contexts):
        groups.setdefault(context.key, []).append(index)
    batches = []
    for members in groups.values():
        variates, steps = contexts[members[0]].values.shape
        rows = ROWS if width is None else max(1, min(ROWS, NUMBERS // (steps * width)))
        samples = min(num_samples, samples_per_batch or max(1, rows // variates))
        size = max(1, min(SERIES, rows // ((num_samples if width is None else samples) * variates)))
        size = 1 << size.bit_length() - 1
        for start in range(0, len(members), size):
            chosen = tuple(members[start : start + size])
            slots = len(chosen)
            if fixed:
                slots = size if len(members) > size else 1 << (slots - 1).bit_length()
            batches.append(Batch(chosen, slots, samples))
    return batches
