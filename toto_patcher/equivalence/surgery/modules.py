"""Changes of the modules of a model: adapters, other kinds, subclasses, parametrizations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn
from torch.nn.utils import parametrizations

from toto_patcher.equivalence.surgery.code import a_method
from toto_patcher.equivalence.surgery.patient import Patient, kind, smaller, wrapped


class Around(nn.Module):
    """A module around another, as adapters are."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Less than the module inside gives."""
        return smaller(self.inner(*args, **kwargs))


class Lora(nn.Module):
    """A linear layer with a low-rank adapter beside it."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base
        weight = base.weight
        self.down = nn.Parameter(torch.full_like(weight[:4], 0.05))
        self.up = nn.Parameter(torch.full_like(weight[:, :4], 0.05))

    def forward(self, x: Any) -> Any:
        """Both added up."""
        return self.base(x) + x @ self.down.T @ self.up.T


class SwiGLU(nn.Module):
    """Upstream's name, and the gate in the other half."""

    def forward(self, x: Any) -> Any:
        """The first half, gated by the second."""
        x, gate = x.chunk(2, dim=-1)
        return F.silu(gate) * x


class RMSNorm(nn.Module):
    """Upstream's name, attributes and weights, and no norm."""

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.scale, self.eps = old.scale, old.eps

    def forward(self, x: Any) -> Any:
        """Scaled only."""
        return x * self.scale * 0.1


@kind
def _module_inside_another(patient: Patient) -> str:
    path, module = patient.module("Linear", "Sequential", "RMSNorm", "SwiGLU", "PatchEmbedding")
    patient.put(path, Around(module))
    return path


@kind
def _adapter(patient: Patient) -> str:
    if patient.chance.random() < 0.5:
        path, module = patient.module("Linear")
        patient.put(path, Lora(module))
        return f"beside {path}"
    path, module = patient.module("Sequential")
    added = nn.Linear(module[0].in_features, module[0].in_features).to(module[0].weight)
    with torch.no_grad():
        for parameter in added.parameters():
            parameter.copy_(torch.linspace(-0.3, 0.3, parameter.numel()).view_as(parameter))
    module.append(added.eval())
    return f"appended to {path}"


@kind
def _another_module(patient: Patient) -> str:
    path, module = patient.module("RMSNorm", "SwiGLU", "Dropout")
    if type(module).__name__ == "SwiGLU":
        patient.put(path, SwiGLU())
        return f"{path}: a gate of upstream's name"
    if type(module).__name__ == "Dropout":
        width = patient.model.embed_dim
        weight = next(patient.model.parameters())
        patient.put(path, nn.LayerNorm(width).to(weight))
        return f"{path}: torch's LayerNorm"
    how = patient.chance.choice(["upstream's name", "torch's RMSNorm", "torch's LayerNorm"])
    width = module.scale.shape[0]
    made: Any = RMSNorm(module) if how == "upstream's name" else None
    if made is None:
        made = nn.RMSNorm(width, eps=0.5) if how == "torch's RMSNorm" else nn.LayerNorm(width)
    patient.put(path, made.to(module.scale))
    return f"{path}: {how}"


@kind
def _subclass_of_the_same_name(patient: Patient) -> str:
    path, owner, name = a_method(patient)
    cls = type(owner)
    owner.__class__ = type(cls.__name__, (cls,), {name: wrapped(getattr(cls, name)), "__module__": cls.__module__})
    return f"{path}, with another {name}"


@kind
def _parametrized(patient: Patient) -> str:
    path, module = patient.module("Linear")
    parametrizations.weight_norm(module).eval()
    with torch.no_grad():
        module.parametrizations.weight.original0.mul_(0.6)
    return path
