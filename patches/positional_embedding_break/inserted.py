"""What the patch adds to ``BaseMultiheadAttention``. The codemod takes the methods from here."""

from collections.abc import Callable
from typing import Any

import torch


class CachedAttention:
    """The attributes of ``BaseMultiheadAttention`` that the added methods use, and the methods."""

    _hands_over: bool
    training: bool
    dropout: float
    rotary_emb: Any
    wO: Callable[..., torch.Tensor]  # noqa: N815 - upstream's name
    rearrange_inputs: Callable[..., torch.Tensor]
    get_qkv: Callable[..., tuple[torch.Tensor, ...]]
    run_attention: Callable[..., torch.Tensor]
    rearrange_output: Callable[..., torch.Tensor]
    positional_embedding: Callable[..., tuple[Any, ...]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A subclass with its own version of what the cached path relies on keeps upstream's path."""
        super().__init_subclass__(**kwargs)
        base = next(parent for parent in cls.__mro__ if "_forward_with_cache" in vars(parent))
        names = ("forward", "positional_embedding", "run_attention")
        cls._hands_over = all(getattr(cls, name) is getattr(base, name) for name in names)

    def _is_upstreams(self) -> bool:
        """Whether the methods that the cached path replaces, or calls otherwise, are still those of this package.

        Told from where their code stands: a method set on an instance or a class, a wrapper around one or a subclass
        has code of its own, whatever it is called.
        """
        package = __file__
        for _ in range(min(max(__name__.count("."), 1), 2)):
            package = package[: max(package.rfind("/"), package.rfind("\\"))]
        replaced = [(self, "positional_embedding"), (self, "run_attention")]
        if self.rotary_emb is not None:
            replaced.append((self.rotary_emb, "rotate_queries_and_keys"))
        for owner, name in replaced:
            code = getattr(getattr(type(owner), name, None), "__code__", None)
            if name in vars(owner) or code is None or code.co_name != name or not code.co_filename.startswith(package):
                return False
        return True

    # Not torch.compiler.disable(recursive=False): its wrapper makes Dynamo examine the frame anew at every call.
    @torch._dynamo.decorators.skip
    def _forward_with_cache(
        self, layer_idx: int, inputs: torch.Tensor, attention_mask: Any, kv_cache: Any
    ) -> torch.Tensor:
        """Time-wise attention over the cache: the one graph break of a layer.

        Runs as plain Python. What it calls first is compiled, with the same shapes at every decoding step; what it
        calls next runs eagerly, so that the growing length of the cache never becomes part of a graph.
        """
        if not self._is_upstreams():
            batch, variates, seq_len, _ = inputs.shape
            q, k, v = self.get_qkv(self.rearrange_inputs(inputs))
            q, k, v, offset = self.positional_embedding(q, k, v, kv_cache, layer_idx)
            dropout = self.dropout if self.training else 0.0
            output = self.run_attention(attention_mask, q, k, v, offset, dropout, seq_len, variates)
            return self.wO(self.rearrange_output(output, batch, variates, seq_len))
        q, k, v = self._project_and_rotate(inputs, kv_cache.position(layer_idx))
        return self._attend_over_cache(layer_idx, inputs.shape, q, k, v, attention_mask, kv_cache)

    def _project_and_rotate(
        self, inputs: torch.Tensor, position: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        q, k, v = self.get_qkv(self.rearrange_inputs(inputs))
        if self.rotary_emb is not None:
            steps = self.rotary_emb.get_seq_pos(
                q.shape[self.rotary_emb.default_seq_dim], dtype=q.dtype, device=q.device
            )
            # Added in 32 bits or more and rounded once, as a GPU adds a Python integer. A CPU rounds the integer first:
            # the same for one step at a time, which is all that the model decodes.
            exact = torch.promote_types(q.dtype, torch.float32)
            seq_pos = (steps.to(exact) + position).to(q.dtype)
            q, k = self.rotary_emb.rotate_queries_and_keys(q, k, seq_pos=seq_pos)
        return q.contiguous(), k, v

    @torch.compiler.disable
    def _attend_over_cache(
        self,
        layer_idx: int,
        shape: torch.Size,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        attention_mask: Any,
        kv_cache: Any,
    ) -> torch.Tensor:
        batch, variates, seq_len, _ = shape
        # Without a rotary embedding upstream attends as if nothing were cached; so does this.
        seq_pos_offset = 0 if self.rotary_emb is None else kv_cache.seq_len(layer_idx)
        kv_cache.append(layer_idx, (k, v))
        k, v = kv_cache[layer_idx]
        # Views of the cache: the attention kernels take them as they are, so nothing is copied. Under mixed precision
        # the cache may hold another dtype than the one attention runs in.
        k, v = k.to(q.dtype), v.to(q.dtype)
        if torch.is_grad_enabled() or k.shape[-1] * k.element_size() % 64:
            # Autograd keeps what attention read; a view would be changed under it by the next append. And kernels add
            # up in another order where rows begin off the lines of memory, which those of upstream's copies do not.
            k, v = k.contiguous(), v.contiguous()
        dropout = self.dropout if self.training else 0.0
        output = self.run_attention(attention_mask, q, k, v, seq_pos_offset, dropout, seq_len, variates)
        return self.wO(self.rearrange_output(output, batch, variates, seq_len))
