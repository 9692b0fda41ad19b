"""Changes of the code that a forecast runs: methods, functions, hooks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn
from torch.nn.modules import module as hooks

from toto_patcher.equivalence.decoders import seed_exact
from toto_patcher.equivalence.surgery.patient import Patient, kind, smaller, wrapped

_METHODS = (
    ("transformer.layers.0.attention", ("forward", "positional_embedding", "get_qkv", "run_attention")),
    ("transformer.layers.0.attention", ("rearrange_inputs", "rearrange_output")),
    ("transformer.layers.0", ("forward", "pre_norm_attention")),
    ("transformer", ("forward", "_get_mask")),
    ("transformer.rotary_emb", ("forward", "get_scale", "rotate_queries_and_keys", "get_seq_pos")),
    ("patch_embed", ("forward",)),
    ("output_distribution", ("forward",)),
    ("transformer.layers.0.mlp.1", ("forward",)),
    ("transformer.layers.0.norm1", ("forward",)),
    ("unembed", ("forward",)),
    ("", ("forward", "backbone")),
    ("scaler", ("__call__",)),
)


def a_method(patient: Patient, methods: Sequence[tuple[str, tuple[str, ...]]] = _METHODS) -> tuple[str, Any, str]:
    """One method on the path of a forecast, by chance: where its owner is, the owner, and its name."""
    path, names = patient.chance.choice(methods)
    owner = functools.reduce(getattr, filter(None, path.split(".")), patient.model)
    found = [name for name in names if hasattr(owner, name)]
    return path or "the model", owner, patient.chance.choice(found or ["forward"])


@kind
def _method_of_an_instance(patient: Patient) -> str:
    path, owner, name = a_method(patient, _METHODS[:-1])  # a __call__ of an instance is not looked at by Python
    setattr(owner, name, wrapped(getattr(owner, name)))
    return f"{path}.{name}"


@kind
def _method_of_a_class(patient: Patient) -> str:
    _, owner, name = a_method(patient)
    cls = next(cls for cls in type(owner).__mro__ if name in vars(cls))
    if patient.chance.random() < 0.5:
        cls = type(owner)  # gets a method of its own where it had none
    patient.replace(cls, name, wrapped(getattr(cls, name)))
    return f"{cls.__name__}.{name}"


@kind
def _code_of_a_function(patient: Patient) -> str:
    function = type(patient.model.transformer.layers[0].mlp[1]).forward

    def forward(self: Any, x: Any) -> Any:
        return x.chunk(2, dim=-1)[0]

    patient.undo.callback(setattr, function, "__code__", function.__code__)
    function.__code__ = forward.__code__
    return "the gate's forward"


@kind
def _function_of_a_module(patient: Patient) -> str:
    modules = {name.rpartition(".")[2]: module for name, module in patient.tree.modules().items()}
    owner, name = patient.chance.choice(
        [(modules["attention"], "scaled_dot_product_attention"), (modules["rope"], "apply_rotary_emb"), (F, "silu")]
    )
    patient.replace(owner, name, wrapped(getattr(owner, name)))
    return f"{owner.__name__}.{name}"


@kind
def _hook(patient: Patient) -> str:
    path, module = patient.module("Linear", "RMSNorm", "SwiGLU", "Sequential", "Dropout", "TransformerLayer")
    how = patient.chance.choice(["after", "before", "with keywords"])
    if how == "before":
        module.register_forward_pre_hook(lambda _, args: smaller(args))
    elif how == "after":
        module.register_forward_hook(lambda _, args, out: smaller(out))
    else:
        module.register_forward_hook(lambda _, args, kwargs, out: smaller(out), with_kwargs=True)
    return f"{how} {path}"


@kind
def _hook_of_all_modules(patient: Patient) -> str:
    how = patient.chance.choice(["after", "before"])
    if how == "after":
        handle = hooks.register_module_forward_hook(
            lambda module, args, out: smaller(out) if isinstance(module, nn.Linear) else None
        )
    else:
        handle = hooks.register_module_forward_pre_hook(
            lambda module, args: smaller(args) if isinstance(module, nn.Linear) else None
        )
    patient.undo.callback(handle.remove)
    return how


@kind
def _noise(patient: Patient) -> str:
    """Random numbers in the middle: the same seed gives the same forecast, as upstream draws."""
    seed_exact(patient.forecaster)
    told = "training mode"
    if patient.chance.random() < 0.5:
        path, module = patient.module("TransformerLayer")
        module.register_forward_hook(lambda _, args, out: out + torch.randn_like(out))
        told = f"after {path}"
    else:
        patient.model.train()
    patient.extra["samples, each with noise of its own"] = patient.forecast(samples=4, samples_per_batch=2)
    return told
