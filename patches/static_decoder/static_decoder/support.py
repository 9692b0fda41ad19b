"""Whether a backbone is one that the decoder computes exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from .origin import Origin, ReplacedError
from .weights import MIXTURE, mlp_linears

FORECASTER = (
    "generate_mean",
    "generate_samples",
    "create_affine_transformed",
    "round_ft_ev",
    "assert_ev_compatibility",
)
"""Methods of the forecaster whose work the decoder takes over."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
GLOBAL_HOOKS = [torch.nn.modules.module._global_forward_hooks, torch.nn.modules.module._global_forward_pre_hooks]
"""Hooks that every module has."""
TORCH = (torch.nn.Linear, torch.nn.Dropout, torch.nn.Sequential, torch.nn.ModuleList)


class Classes:
    """The classes of a tree, as its files define them, and the proof of it.

    Raises:
        ReplacedError: something on upstream's path is not what the files define.
    """

    def __init__(self, forecaster: type) -> None:
        self.forecaster = forecaster
        origin = self.origin = Origin(forecaster, FORECASTER, TORCH)
        self.backbone = self._found("TotoBackbone", None)
        named = ("Transformer", "PatchEmbedding", "CausalPatchStdMeanScaler", "MixtureOfStudentTsOutput", "KVCache")
        self.transformer, self.embedding, self.scaler, self.mixture, _ = (
            self._found(name, self.backbone) for name in named
        )
        self.fusion = origin.find("Fusion", self.backbone)
        inside = ("TransformerLayer", "RMSNorm", "SwiGLU", "TimeAwareRotaryEmbedding")
        self.layer, self.norm, self.gate, self.rotary = (self._found(name, self.transformer) for name in inside)
        self.over_time = self._found("TimeWiseMultiheadAttention", self.transformer)
        self.over_variates = self._found("SpaceWiseMultiheadAttention", self.transformer)
        origin.seal()

    def _found(self, name: str, user: type | None) -> type:
        found = self.origin.find(name, user)
        if found is None:
            raise ReplacedError(f"the files of the tree lead to no class {name}")
        return found


def unsupported(backbone: Any, classes: Classes) -> str | None:
    """Why the decoder must not stand in for this backbone, or ``None``.

    The decoder computes with the weights and never calls the modules, so a module of another class (an adapter, a
    quantised or parametrised layer, a user's own of the same name), one more in a chain, or a hook keeps upstream's
    path.
    """
    try:
        return _reason(backbone, classes)
    except Exception as error:  # whatever a strange module answers, upstream's path may know
        return f"the model is not built as expected: {type(error).__name__}: {error}"


def _reason(backbone: Any, classes: Classes) -> str | None:
    if any(module.training for module in backbone.modules()):
        return "the model is in training mode"
    for name, module, expected in _modules(backbone, classes):
        if type(module) is not expected:
            return f"{name} is {_called(type(module), expected)}"
    for name, module in backbone.named_modules():
        if any(getattr(module, hooks) for hooks in HOOKS):
            return f"{name or 'the model'} has a hook"
        own = [key for key in vars(module) if callable(getattr(type(module), key, None)) and key != "_call_impl"]
        if own:
            return f"{name or 'the model'} has a {own[0]} of its own"
    if any(GLOBAL_HOOKS):
        return "all modules have a hook"
    return next((reason for holds, reason in _settings(backbone) if not holds), None) or _tensors(backbone)


def _called(cls: type, expected: type) -> str:
    return cls.__name__ if cls.__name__ != expected.__name__ else f"{cls.__module__}.{cls.__qualname__}"


def _modules(backbone: Any, classes: Classes) -> Iterator[tuple[str, Any, type]]:
    """Name, object, and the class that it must be of; what is inside comes after what holds it."""
    linear = torch.nn.Linear
    yield "the model", backbone, classes.backbone
    yield "the scaler", backbone.scaler, classes.scaler
    yield "the output distribution", backbone.output_distribution, classes.mixture
    for name in MIXTURE:
        yield f"output_distribution.{name}", getattr(backbone.output_distribution, name), linear
    yield "unembed", backbone.unembed, linear
    yield "patch_embed", backbone.patch_embed, classes.embedding
    yield "patch_embed.projection", backbone.patch_embed.projection, linear
    if getattr(backbone, "fusion", None) is not None:
        yield "fusion", backbone.fusion, classes.fusion or type(None)
    yield "transformer", backbone.transformer, classes.transformer
    yield "transformer.rotary_emb", backbone.transformer.rotary_emb, classes.rotary
    yield "transformer.layers", backbone.transformer.layers, torch.nn.ModuleList
    for number, layer in enumerate(backbone.transformer.layers):
        name = f"layers.{number}"
        yield name, layer, classes.layer
        is_time = layer.attention_axis.name == "TIME"
        yield f"{name}.attention", layer.attention, classes.over_time if is_time else classes.over_variates
        yield f"{name}.attention.wQKV", layer.attention.wQKV, linear
        yield f"{name}.attention.wO", layer.attention.wO, linear
        yield f"{name}.norm1", layer.norm1, classes.norm
        yield f"{name}.norm2", layer.norm2, classes.norm
        yield f"{name}.mlp", layer.mlp, torch.nn.Sequential
        yield from _mlp(f"{name}.mlp", list(layer.mlp), classes)


def _mlp(name: str, parts: list[Any], classes: Classes) -> Iterator[tuple[str, Any, type]]:
    fused = classes.origin.imported("SwiGLU_fused", classes.layer)
    if fused is not None and len(parts) == 2:
        expected = [fused, torch.nn.Dropout]
    else:
        expected = [torch.nn.Linear, classes.gate, torch.nn.Linear, torch.nn.Dropout]
    for number, (part, cls) in enumerate(zip(parts, expected, strict=False)):
        yield f"{name}.{number}", part, cls
    if len(parts) != len(expected):
        raise ValueError(f"{name} has {len(parts)} parts, not {len(expected)}")
    if fused is not None and len(parts) == 2:
        for inner in ("w12", "w3"):
            yield f"{name}.0.{inner}", getattr(parts[0], inner), torch.nn.Linear


def _settings(backbone: Any) -> Iterator[tuple[bool, str]]:
    """Whether settings are such as the decoder takes them to be, and what to say where they are not."""
    scaler, transformer, layers = backbone.scaler, backbone.transformer, list(backbone.transformer.layers)
    patch, width = backbone.patch_embed.patch_size, backbone.patch_embed.projection.weight.shape[0]
    yield backbone.patch_embed.stride == patch, "patches overlap"
    yield scaler.patch_size == patch, "the scaler's patches are not the model's"
    numbers = (scaler.minimum_scale, scaler.scale_factor_exponent, *(layer.norm1.eps for layer in layers))
    yield all(isinstance(number, int | float) for number in numbers), "a setting of the scaler or a norm is no number"
    norms = [norm for layer in layers for norm in (layer.norm1, layer.norm2)]
    yield len({norm.eps for norm in norms}) == 1, "the norms differ"
    yield all(norm.scale is not None for norm in norms), "the layers are normalised without weights"
    yield any(layer.attention_axis.name == "TIME" for layer in layers), "no layer attends over time"
    yield len(layers) == backbone.num_layers, "the number of layers is not what the model says"
    heads, efficient = layers[0].attention.num_heads, transformer.use_memory_efficient_attention
    for layer in layers:
        attention = layer.attention
        yield attention.attention_axis is layer.attention_axis, "an attention's axis is not its layer's"
        yield attention.num_heads == layer.num_heads == heads, "the layers' heads differ"
        yield attention.head_dim * heads == width == backbone.embed_dim, "the heads do not fill the model's width"
        yield attention.use_memory_efficient_attention == efficient, "the layouts of attention differ"
        if layer.attention_axis.name == "TIME":
            yield attention.rotary_emb is transformer.rotary_emb, "a layer has a rotary embedding of its own"
    yield backbone.use_memory_efficient_attention == efficient, "the layouts of attention differ"
    yield bool(transformer.rotary_emb.use_xpos), "the rotary embedding has no scale"
    yield transformer.rotary_emb.default_seq_dim == (-3 if efficient else -2), "the rotary embedding turns another axis"
    fusion = getattr(backbone, "fusion", None)
    yield getattr(transformer, "fusion", None) is fusion, "the transformer's fusion is not the model's"
    yield getattr(backbone, "num_prepended_tokens", 0) == (fusion is not None), "other tokens stand before the context"


def _tensors(backbone: Any) -> str | None:
    parameters, buffers = list(backbone.parameters()), list(backbone.buffers())
    if any(parameter.is_meta for parameter in parameters):
        return "the model has no weights yet"
    if any(type(parameter) is not torch.nn.Parameter for parameter in parameters):
        return "a weight is not a plain tensor"  # quantised or spread over devices: kernels read memory it has not
    if any(type(buffer) is not torch.Tensor or buffer.layout != torch.strided for buffer in buffers):
        return "a buffer is not a plain tensor"
    if any(parameter.is_inference() for parameter in parameters):
        return "the weights were made in inference mode, where changes to them cannot be seen"
    if len({(parameter.device, parameter.dtype) for parameter in parameters}) != 1:
        return "the parameters are spread over devices or dtypes"
    if {buffer.device for buffer in buffers} != {parameters[0].device}:
        return "the buffers are not where the parameters are"
    return _shapes(backbone)


def _shapes(backbone: Any) -> str | None:
    width, patch = backbone.embed_dim, backbone.patch_embed.patch_size
    components = backbone.output_distribution.df.weight.shape[0]
    expected = [(backbone.patch_embed.projection, (width, patch)), (backbone.unembed, (width * patch, width))]
    expected += [(getattr(backbone.output_distribution, name), (components, width)) for name in MIXTURE]
    for layer in backbone.transformer.layers:
        up, down = mlp_linears(layer)
        inner = down.weight.shape[1]
        expected += [(layer.attention.wQKV, (3 * width, width)), (layer.attention.wO, (width, width))]
        expected += [(up, (2 * inner, width)), (down, (width, inner))]
    for module, shape in expected:
        if tuple(module.weight.shape) != shape or module.bias is None or tuple(module.bias.shape) != shape[:1]:
            return "a linear layer is not of the expected shape, or has no bias"
    return None
