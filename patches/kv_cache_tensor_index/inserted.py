"""What the patch adds to ``KVCache``. The codemod takes the methods from here, so this file is linted and typed."""

import torch


class PositionedCache:
    """The attributes of ``KVCache`` that the added methods read, and the methods."""

    _keys: torch.Tensor
    _current_idx: list[int]
    _layer_cache_map: list[int]

    def _allocate_position(self) -> None:
        self._position = torch.zeros((), dtype=torch.int, device=self._keys.device)
        self._position_value = 0

    def position(self, layer_idx: int) -> torch.Tensor:
        """Number of steps that a layer has cached, as a 0-d int tensor on the cache's device.

        The tensor keeps its address and its shape while its value grows, so compiled code that reads it is compiled
        once. It is overwritten by the next call with another length: use it at once, do not keep it.
        """
        length = self._current_idx[self._layer_cache_map[layer_idx]]
        if self._position_value != length:
            self._position.fill_(length)
            self._position_value = length
        return self._position
