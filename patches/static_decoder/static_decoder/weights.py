"""What the decoder needs of a backbone: its weights as plain tensors, and whether it is one that the decoder knows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Layer(NamedTuple):
    """The parameters of one transformer layer, D wide, with an MLP of F.

    Attributes:
        norm1: scale of the norm before attention, shape (D,).
        qkv: weight (3 D, D) of the projection to queries, keys and values, and its bias (3 D,).
        out: weight (D, D) and bias (D,) of the output projection.
        norm2: scale of the norm before the MLP, shape (D,).
        up: weight (2 F, D) and bias (2 F,); the first F outputs are the gate.
        down: weight (D, F) and bias (D,).
    """

    norm1: torch.Tensor
    qkv: tuple[torch.Tensor, torch.Tensor]
    out: tuple[torch.Tensor, torch.Tensor]
    norm2: torch.Tensor
    up: tuple[torch.Tensor, torch.Tensor]
    down: tuple[torch.Tensor, torch.Tensor]


class Weights(NamedTuple):
    """All parameters of a backbone in the order of use.

    Attributes:
        embed: weight (D, patch) and bias (D,) of the patch embedding.
        layers: one entry per layer.
        is_time: for each layer, whether it attends over time (else over variates).
        head: weight (patch * 4 * K, D) and bias of the un-embedding and the mixture's four projections in one; per
            point K values each of df, loc, scale and mixture weight.
        eps: of the norms.
    """

    embed: tuple[torch.Tensor, torch.Tensor]
    layers: tuple[Layer, ...]
    is_time: tuple[bool, ...]
    head: tuple[torch.Tensor, torch.Tensor]
    eps: float


MIXTURE = ("df", "loc_proj", "scale_proj", "mixture_weights")


def read(backbone: Any) -> Weights:
    """The weights of a backbone that ``support.unsupported`` has nothing against."""
    layers = backbone.transformer.layers
    return Weights(
        embed=_linear(backbone.patch_embed.projection),
        layers=tuple(map(_layer, layers)),
        is_time=tuple(layer.attention_axis.name == "TIME" for layer in layers),
        head=folded_head(backbone),
        eps=layers[0].norm1.eps,
    )


def _linear(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return module.weight.detach(), module.bias.detach()


def _layer(layer: Any) -> Layer:
    up, down = mlp_linears(layer)
    return Layer(
        layer.norm1.scale.detach(),
        _linear(layer.attention.wQKV),
        _linear(layer.attention.wO),
        layer.norm2.scale.detach(),
        _linear(up),
        _linear(down),
    )


def mlp_linears(layer: Any) -> tuple[Any, Any]:
    """The two linear modules of the MLP; xFormers' fused module keeps them as ``w12`` and ``w3``."""
    first = layer.mlp[0]
    return (first.w12, first.w3) if hasattr(first, "w12") else (first, layer.mlp[2])


def folded_head(backbone: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Un-embedding and mixture projections as one linear map.

    Nothing stands between the two linear maps, so their product does the same work with an eighth of the weights. It is
    computed in float64 and rounded once.
    """
    heads = [getattr(backbone.output_distribution, name) for name in MIXTURE]
    inner, inner_bias = _linear(backbone.unembed)
    outer = torch.cat([head.weight.detach() for head in heads]).double()
    outer_bias = torch.cat([head.bias.detach() for head in heads]).double()
    width = outer.shape[1]
    weights, biases = [], []
    for part, part_bias in zip(inner.split(width), inner_bias.split(width), strict=True):  # one per point of a patch
        weights.append((outer @ part.double()).to(inner.dtype))
        biases.append((outer @ part_bias.double() + outer_bias).to(inner.dtype))
    return torch.cat(weights), torch.cat(biases)
