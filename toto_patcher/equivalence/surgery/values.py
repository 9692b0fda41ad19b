"""Changes of the values that a model holds: weights, buffers, settings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from toto_patcher.equivalence.surgery.patient import Patient, kind


def _with_data(parameter: nn.Parameter) -> nn.Parameter:
    parameter.data = parameter.data * 0.8
    return parameter


_WRITES: dict[str, Callable[[nn.Parameter], Any]] = {
    "in place": lambda p: p.mul_(0.7),
    "through .data": lambda p: p.data.mul_(0.7),
    ".data replaced": lambda p: _with_data(p),
    ".data replaced twice": lambda p: _with_data(_with_data(p)),
    "copied into": lambda p: p.data.copy_(p.data.flip(0)),
    "by numpy": lambda p: p.detach().cpu().numpy().__imul__(0.7) if p.device.type == "cpu" else p.mul_(0.7),
    "in inference mode": lambda p: torch.inference_mode()(p.mul_)(0.7),
}


@kind
def _weights(patient: Patient) -> str:
    path, module = patient.module("Linear", "RMSNorm")
    how = patient.chance.choice([*_WRITES, "a new parameter", "new parameters twice"])
    for name, parameter in list(module.named_parameters(recurse=False)):
        if how in _WRITES:
            with torch.no_grad():
                _WRITES[how](parameter)
        else:
            for _ in range(1 + how.endswith("twice")):
                setattr(module, name, nn.Parameter(getattr(module, name).detach() * 0.7))
    return f"{path}: {how}"


@kind
def _all_weights(patient: Patient) -> str:
    model = patient.model
    parameters = list(model.parameters())
    how = patient.chance.choice(["SGD", "fused SGD", "fused AdamW", "foreach", "loaded", "loaded by assignment"])
    if how.startswith("loaded"):
        state = {name: value * 0.8 for name, value in model.state_dict().items()}
        model.load_state_dict(state, assign=how.endswith("assignment"))
    elif how == "foreach":
        with torch.no_grad():
            torch._foreach_mul_(parameters, 0.9)
    else:
        cls = torch.optim.AdamW if how.endswith("AdamW") else torch.optim.SGD
        optimizer = cls(parameters, lr=0.02, fused=how.startswith("fused"))
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
    return how


@kind
def _rotary_buffers(patient: Patient) -> str:
    rotary = patient.model.transformer.rotary_emb
    name = patient.chance.choice(["freqs", "scale"])
    how = patient.chance.choice(["in place", "through .data", "another tensor"])
    if how == "another tensor":
        setattr(rotary, name, getattr(rotary, name) * 0.9)
    else:
        tensor = getattr(rotary, name)
        (tensor if how == "in place" else tensor.data).mul_(0.9)
    return f"{name}: {how}"


_SETTINGS: tuple[tuple[str, str, Any], ...] = (
    ("scaler", "scale_factor_exponent", 0.01),
    ("scaler", "minimum_scale", 5.0),
    ("scaler", "use_bessel_correction", False),
    ("scaler", "stabilize_with_global", False),
    ("scaler", "patch_size", 8),
    ("transformer.rotary_emb", "interpolate_factor", 2.0),
    ("transformer.rotary_emb", "scale_base", 8),
    ("transformer.rotary_emb", "use_xpos", False),
    ("patch_embed", "stride", 8),
    ("transformer.layers.1.norm1", "eps", 2.0),
    ("transformer.layers.1.norm2", "eps", 2.0),
)


@kind
def _settings(patient: Patient) -> str:
    path, name, value = patient.chance.choice(_SETTINGS)
    setattr(functools.reduce(getattr, path.split("."), patient.model), name, value)
    return f"{path}.{name} = {value}"
