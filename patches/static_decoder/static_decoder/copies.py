"""Whether tensors that something was computed from still hold the values that they held then.

A version counter does not tell: writing into ``parameter.data`` and fused optimizer steps leave it as it is. So the
bits are compared, those of large tensors summed up. No change of a single number escapes an integer sum; and rows or
columns that change places do not, for sums are shorter than rows and begin at other columns in each.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch

SPAN = 127
"""How many words are summed up: less than a row of a large matrix has, and a prime."""
WHOLE = 65536
"""Words of a tensor that is compared word by word."""
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Copies:
    """Remembers the values of tensors.

    Args:
        sources: of one device; they may change.
    """

    def __init__(self, sources: Sequence[torch.Tensor]) -> None:
        self._sources = list(sources)
        self._versions = self._counted()
        self._sums = sums(self._sources)

    def renew(self) -> None:
        """Remembers the values of now in place of those before, at the same address."""
        self._versions = self._counted()
        self._sums.copy_(sums(self._sources))

    def _counted(self) -> list[int]:
        return [source._version for source in self._sources]

    def seen(self) -> bool:
        """Whether a change shows without reading the values."""
        return self._counted() != self._versions

    def unchanged(self) -> bool:
        """Whether all values are what they were; waits for the answer."""
        return not self.seen() and bool(self.same())

    def same(self) -> torch.Tensor:
        """Whether all values are what they were: a boolean tensor of shape ()."""
        return (sums(self._sources) == self._sums).all()


def sums(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The bits of all tensors, added up: whole numbers, shape (sums,)."""
    if tensors[0].is_cuda and importlib.util.find_spec("triton") is not None:
        from .digests import digests

        return digests(tensors)
    return torch.cat([_sums(tensor.detach()) for tensor in tensors])


def _sums(tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.reshape(-1)
    size = flat.element_size()
    pairs = 8 // size if flat.data_ptr() % 8 == 0 and flat.numel() * size % 8 == 0 else 1  # fewer to add up
    bits = flat.view(BITS[size * pairs])
    summed = bits.numel() // SPAN * SPAN if bits.numel() > WHOLE else 0
    rest = bits[summed:].to(torch.int64)
    return torch.cat((bits[:summed].view(-1, SPAN).sum(1, dtype=torch.int64), rest)) if summed else rest
