"""Whether a backbone is one that the decoder computes exactly, and whether it has changed since."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from .weights import MIXTURE, mlp_linears

HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def unsupported(backbone: Any) -> str | None:
    """Why the decoder must not stand in for this backbone, or ``None``.

    The decoder computes with the weights and never calls the modules, so a module of another class, a subclass with
    another ``forward`` (an adapter, a quantised layer, a parametrisation) or a hook must keep upstream's path.
    """
    if any(module.training for module in backbone.modules()):
        return "the model is in training mode"
    if type(backbone.scaler).__name__ != "CausalPatchStdMeanScaler":
        return f"the scaler is {type(backbone.scaler).__name__}"
    if type(backbone.output_distribution).__name__ != "MixtureOfStudentTsOutput":
        return f"the output distribution is {type(backbone.output_distribution).__name__}"
    if backbone.patch_embed.stride != backbone.patch_embed.patch_size:
        return "patches overlap"
    if backbone.scaler.patch_size != backbone.patch_embed.patch_size:
        return "the scaler's patches are not the model's"
    kinds = {type(layer.norm1).__name__ for layer in backbone.transformer.layers}
    if kinds != {"RMSNorm"} or any(norm.scale is None for norm in _norms(backbone)):
        return f"the layers are normalised by {', '.join(sorted(kinds))}"
    if len({norm.eps for norm in _norms(backbone)}) != 1:
        return "the norms differ"
    if not any(layer.attention_axis.name == "TIME" for layer in backbone.transformer.layers):
        return "no layer attends over time"
    for name, module, expected in _modules(backbone):
        if type(module).__name__ not in expected:
            return f"{name} is {type(module).__name__}"
    for name, module in _linears(backbone):
        if type(module) is not torch.nn.Linear or module.bias is None:
            return f"{name} is {type(module).__name__}"
    for name, module in backbone.named_modules():
        if any(getattr(module, hooks) for hooks in HOOKS) or "forward" in vars(module):
            return f"{name or 'the model'} has a hook"
    if any(parameter.is_meta for parameter in backbone.parameters()):
        return "the model has no weights yet"
    if any(type(parameter) is not torch.nn.Parameter for parameter in backbone.parameters()):
        return "a weight is not a plain tensor"  # quantised or spread over devices: kernels read memory it has not
    if any(parameter.is_inference() for parameter in backbone.parameters()):
        return "the weights were made in inference mode, where changes to them cannot be seen"
    if len({(parameter.device, parameter.dtype) for parameter in backbone.parameters()}) != 1:
        return "the parameters are spread over devices or dtypes"
    return None


def _norms(backbone: Any) -> list[Any]:
    return [norm for layer in backbone.transformer.layers for norm in (layer.norm1, layer.norm2)]


def _modules(backbone: Any) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Name, module and the classes that it may be of."""
    rotary = backbone.transformer.rotary_emb
    yield "patch_embed", backbone.patch_embed, ("PatchEmbedding",)
    yield "transformer", backbone.transformer, ("Transformer",)
    yield "transformer.rotary_emb", rotary, ("TimeAwareRotaryEmbedding",)
    yield "fusion", getattr(backbone, "fusion", None), ("Fusion", "NoneType")
    for number, layer in enumerate(backbone.transformer.layers):
        axis = "TimeWise" if layer.attention_axis.name == "TIME" else "SpaceWise"
        yield f"layers.{number}", layer, ("TransformerLayer",)
        yield f"layers.{number}.attention", layer.attention, (f"{axis}MultiheadAttention",)
        if axis == "TimeWise" and layer.attention.rotary_emb is not rotary:
            yield f"layers.{number}.attention.rotary_emb", layer.attention.rotary_emb, ()
        if hasattr(layer.mlp[0], "w12"):
            yield f"layers.{number}.mlp", layer.mlp[0], ("SwiGLU", "_SwiGLUModule")
        else:
            yield f"layers.{number}.mlp.1", layer.mlp[1], ("SwiGLU",)
            yield f"layers.{number}.mlp.3", layer.mlp[3], ("Dropout",)


def _linears(backbone: Any) -> Iterator[tuple[str, Any]]:
    yield "patch_embed.projection", backbone.patch_embed.projection
    yield "unembed", backbone.unembed
    for name in MIXTURE:
        yield f"output_distribution.{name}", getattr(backbone.output_distribution, name)
    for number, layer in enumerate(backbone.transformer.layers):
        up, down = mlp_linears(layer)
        named = {"wQKV": layer.attention.wQKV, "wO": layer.attention.wO, "up": up, "down": down}
        yield from ((f"layers.{number}.{name}", module) for name, module in named.items())


class Identity:
    """Tells whether a backbone still has the same modules, weights and hooks as when this was made."""

    def __init__(self, backbone: Any) -> None:
        modules = self._modules = list(backbone.modules())
        self._children = [(module._modules, dict(module._modules)) for module in modules if module._modules]
        self._hooks = [getattr(module, hooks) for module in modules for hooks in HOOKS]
        self._tables = [module._parameters for module in modules if module._parameters]
        self._state = self._read()

    def _read(self) -> list[Any]:
        values = [tensor for table in self._tables for tensor in table.values() if tensor is not None]
        return [(tensor.data_ptr(), tensor._version) for tensor in values]

    def holds(self) -> bool:
        """Whether nothing changed. Writing to ``parameter.data`` in place is the one change that cannot be seen."""
        return (
            not any(self._hooks)
            and not any(module.training for module in self._modules)
            and all(table == known for table, known in self._children)
            and self._read() == self._state
        )
