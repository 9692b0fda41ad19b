"""What the decoder needs of a backbone: its weights as plain tensors, and whether it is one that the decoder knows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .layers import merged


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
    """All parameters of a backbone in the order of use; none is a copy, but for what ``Head`` folds.

    Attributes:
        embed: weight (D, patch) and bias (D,) of the patch embedding.
        layers: one entry per layer.
        is_time: for each layer, whether it attends over time (else over variates).
        head: from the transformer's output to the mixture.
        eps: of the norms.
    """

    embed: tuple[torch.Tensor, torch.Tensor]
    layers: tuple[Layer, ...]
    is_time: tuple[bool, ...]
    head: Head
    eps: float


MIXTURE = ("df", "loc_proj", "scale_proj", "mixture_weights")


def read(backbone: Any, views: bool) -> Weights:
    """The weights of a backbone that ``support.unsupported`` has nothing against.

    Args:
        views: of the parameters, as compiled code takes them. Without it they are the parameters themselves: autocast
            keeps what it casts of a parameter, but of no view of one.
    """
    layers = backbone.transformer.layers
    return Weights(
        embed=_linear(backbone.patch_embed.projection, views),
        layers=tuple(_layer(layer, views) for layer in layers),
        is_time=tuple(layer.attention_axis.name == "TIME" for layer in layers),
        head=Head(backbone, views),
        eps=layers[0].norm1.eps,
    )


def _linear(module: Any, views: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return (module.weight.detach(), module.bias.detach()) if views else (module.weight, module.bias)


def _layer(layer: Any, views: bool) -> Layer:
    up, down = mlp_linears(layer)
    norm1, norm2 = ((norm.scale.detach() if views else norm.scale) for norm in (layer.norm1, layer.norm2))
    attention = layer.attention
    qkv, out, up, down = (_linear(module, views) for module in (attention.wQKV, attention.wO, up, down))
    return Layer(norm1, qkv, out, norm2, up, down)


def mlp_linears(layer: Any) -> tuple[Any, Any]:
    """The two linear modules of the MLP; xFormers' fused module keeps them as ``w12`` and ``w3``."""
    first = layer.mlp[0]
    return (first.w12, first.w3) if hasattr(first, "w12") else (first, layer.mlp[2])


class Head:
    """Un-embedding and mixture projections: (rows, D) -> (rows, L * 4 * K); per point K values each of df, loc, scale
    and mixture weight.

    Nothing stands between the two linear maps, so their product does the same work with an eighth of the weights. To
    fold them takes as long as some forecasts.

    Attributes:
        folded: weight (L * 4 * K, D) and bias of the product, or ``None``.
        apart: whether to use the two maps although the product is there.
    """

    def __init__(self, backbone: Any, views: bool) -> None:
        self._inner = _linear(backbone.unembed, views)
        self._outer = [_linear(getattr(backbone.output_distribution, name), views) for name in MIXTURE]
        self.folded: tuple[torch.Tensor, torch.Tensor] | None = None
        self.apart = False

    @property
    def sources(self) -> list[torch.Tensor]:
        """What the product is computed from."""
        return [*self._inner, *(part for linear in self._outer for part in linear)]

    def __call__(self, linear: Any, hidden: torch.Tensor) -> torch.Tensor:
        """The head's outputs, with ``linear`` of ``steps.Parts``."""
        if self.folded is not None and not self.apart:
            return merged(linear(hidden, *self.folded))
        points = merged(linear(hidden, *self._inner)).unflatten(-1, (-1, hidden.shape[-1])).flatten(0, 1)
        raw = torch.cat([merged(linear(points, *outer)) for outer in self._outer], -1)
        return raw.unflatten(0, (hidden.shape[0], -1)).flatten(1)

    @torch.no_grad()
    def fold(self) -> None:
        """Computes the product in float64 and rounds it once; again at the same address."""
        inner, inner_bias = self._inner
        outer = torch.cat([weight for weight, _ in self._outer]).double()
        outer_bias = torch.cat([bias for _, bias in self._outer]).double()
        parts = inner.unflatten(0, (-1, outer.shape[1])), inner_bias.unflatten(0, (-1, outer.shape[1]))
        if self.folded is None:
            rows = len(parts[0]) * len(outer)
            self.folded = inner.new_empty(rows, inner.shape[1]), inner.new_empty(rows)
        weights, biases = (whole.unflatten(0, (-1, len(outer))) for whole in self.folded)
        for weight, bias, part, part_bias in zip(weights, biases, *parts, strict=True):  # one per point of a patch
            weight.copy_(outer @ part.double())
            bias.copy_(outer @ part_bias.double() + outer_bias)
