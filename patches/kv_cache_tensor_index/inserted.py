"""What the patch adds to ``KVCache``. The codemod takes the methods from here, so this file is linted and typed."""

from collections.abc import Callable

import torch


class PositionedCache:
    """The attributes and methods of ``KVCache`` that the added methods use, and the methods."""

    _keys: torch.Tensor
    seq_len: Callable[[int], int]

    def _allocate_position(self) -> None:
        self._position = torch.zeros((), dtype=torch.int, device=self._keys.device)
        self._position_value = [0]  # a list, so that a shallow copy of the cache shares it as it shares the tensor

    @torch.compiler.disable
    def position(self, layer_idx: int) -> torch.Tensor:
        """Number of steps that a layer has cached, as a 0-d int tensor on the cache's device.

        The tensor keeps its address and its shape while its value grows, so compiled code that reads it is compiled
        once. It is overwritten by the next call with another length: use it at once, do not keep it.
        """
        length = self.seq_len(layer_idx)
        if length != int(length):
            raise TypeError(f"the length of a cache is not an integer: {length}")
        if self._position_value[0] != length:
            self._position.fill_(length)
            self._position_value[0] = length
        return self._position
