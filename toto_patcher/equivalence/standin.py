"""A plain torch stand-in for xformers' attention, so that its layout is compared where xformers is not there.

Only the arithmetic differs from xformers; which slices of the cache and of the mask are used is what is being checked,
and both trees get the same stand-in. Only for child processes.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch

FLAG = "XFORMERS_AVAILABLE"


class LowerTriangularMask:
    """Says that a query sees its own position and those before it, counted from the start of the keys."""


def memory_efficient_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_bias: torch.Tensor | LowerTriangularMask | None = None,
    p: float = 0.0,
) -> torch.Tensor:
    """Softmax attention over (batch, sequence, heads, dim) tensors, as xformers defines it.

    Args:
        query: shape (batch, queries, heads, dim).
        key: shape (batch, keys, heads, dim).
        value: shape (batch, keys, heads, dim).
        attn_bias: added to the scores, shape (batch, heads, queries, keys); or a causal mask; or nothing.
        p: dropout probability.
    """
    causal = isinstance(attn_bias, LowerTriangularMask)
    bias = None if attn_bias is None or isinstance(attn_bias, LowerTriangularMask) else attn_bias.to(query.dtype)
    q, k, v = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=p, is_causal=causal)
    return out.transpose(1, 2)


@contextlib.contextmanager
def installed(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Puts the stand-in into every module of a tree that asks whether xformers is there; takes it out afterwards.

    It stands where an import would find it, too: a decoder asks whether the tree has what its files import.
    """
    names: dict[str, Any] = {
        FLAG: True,
        "LowerTriangularMask": LowerTriangularMask,
        "memory_efficient_attention": memory_efficient_attention,
    }
    package = {name: ModuleType(name) for name in ("xformers", "xformers.ops")}
    vars(package["xformers.ops"]).update(names)
    found = {name: sys.modules[name] for name in package if name in sys.modules}
    touched = [module for module in modules.values() if FLAG in vars(module)]
    saved = [dict(vars(module)) for module in touched]
    for module in touched:
        # A module that never names the attention functions only reads the flag.
        used = names if "scaled_dot_product_attention" in vars(module) else {FLAG: True}
        vars(module).update(used)
    sys.modules.update(package)
    try:
        yield
    finally:
        for name in package:
            del sys.modules[name]
        sys.modules.update(found)
        for module, before in zip(touched, saved, strict=True):
            for name in names:
                if name in before:
                    setattr(module, name, before[name])
                elif name in vars(module):
                    delattr(module, name)
