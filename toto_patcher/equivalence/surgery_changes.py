"""What an operation of the check ``surgery`` does to a model, its classes or torch. Only for child processes.

A change draws its particulars (which module, which weights, how) from the operation's own random numbers, so the same
number means the same change in every tree. Whatever it does outside of the model is undone by ``patient.undo``.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn
from torch.nn.modules import module as hooks
from torch.nn.utils import parametrizations

from toto_patcher.equivalence.decoders import seed_exact
from toto_patcher.equivalence.tree import Tree


@dataclass
class Patient:
    """What a change may change.

    Attributes:
        tree: that the model is of.
        forecaster: of a small model.
        chance: the operation's random numbers.
        undo: what is undone at the operation's end.
        patch: the model's patch size, at first.
        forecast: makes a forecast and gives its values.
        device: of the series that are forecast.
        dtype: likewise.
        extra: what else to compare, by what it is.
    """

    tree: Tree
    forecaster: Any
    chance: random.Random
    undo: contextlib.ExitStack
    patch: int
    forecast: Callable[..., torch.Tensor]
    device: torch.device
    dtype: torch.dtype = torch.float32
    extra: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def model(self) -> Any:
        """The backbone."""
        return self.forecaster.model

    def module(self, *classes: str) -> tuple[str, Any]:
        """One of the modules on the path of a forecast, by chance, and where it is."""
        return self.chance.choice(
            [
                (path, module)
                for path, module in self.model.named_modules()
                if path and (not classes or type(module).__name__ in classes) and type(module) is not nn.ModuleList
            ]
        )

    def put(self, path: str, module: Any) -> None:
        """Puts a module in the place of another of the model."""
        owner, _, name = path.rpartition(".")
        setattr(self.model.get_submodule(owner), name, module.eval() if isinstance(module, nn.Module) else module)

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute of a class or a module of Python until the operation ends."""
        own, before = name in vars(owner), vars(owner).get(name)
        setattr(owner, name, value)
        self.undo.callback(*((setattr, owner, name, before) if own else (delattr, owner, name)))


Change = Callable[[Patient], str]
CHANGES: dict[str, Change] = {}
"""Kind -> what makes a change of that kind and says what it changed."""


def _kind(function: Change) -> Change:
    CHANGES[function.__name__.strip("_").replace("_", "-")] = function
    return function


def _smaller(part: Any) -> Any:
    if isinstance(part, torch.Tensor):
        return part * 0.6 if part.is_floating_point() else part
    if isinstance(part, tuple):
        parts = tuple(map(_smaller, part))
        return type(part)(*parts) if hasattr(part, "_fields") else parts
    if isinstance(part, torch.distributions.MixtureSameFamily):
        inner: Any = part.component_distribution
        return type(part)(part.mixture_distribution, type(inner)(inner.df, inner.loc * 0.6, inner.scale))
    return part


def _wrapped(function: Any) -> Any:
    """What a tracing library makes of a function, but not quite: what it gives is smaller."""

    @functools.wraps(function)
    def smaller(*args: Any, **kwargs: Any) -> Any:
        return _smaller(function(*args, **kwargs))

    return smaller


# -- values --------------------------------------------------------------------------------------------------------


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


@_kind
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


@_kind
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


@_kind
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


@_kind
def _settings(patient: Patient) -> str:
    path, name, value = patient.chance.choice(_SETTINGS)
    setattr(functools.reduce(getattr, path.split("."), patient.model), name, value)
    return f"{path}.{name} = {value}"


# -- code ----------------------------------------------------------------------------------------------------------

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


def _method(patient: Patient, methods: Sequence[tuple[str, tuple[str, ...]]] = _METHODS) -> tuple[str, Any, str]:
    path, names = patient.chance.choice(methods)
    owner = functools.reduce(getattr, filter(None, path.split(".")), patient.model)
    found = [name for name in names if hasattr(owner, name)]
    return path or "the model", owner, patient.chance.choice(found or ["forward"])


@_kind
def _method_of_an_instance(patient: Patient) -> str:
    path, owner, name = _method(patient, _METHODS[:-1])  # a __call__ of an instance is not looked at by Python
    setattr(owner, name, _wrapped(getattr(owner, name)))
    return f"{path}.{name}"


@_kind
def _method_of_a_class(patient: Patient) -> str:
    _, owner, name = _method(patient)
    cls = next(cls for cls in type(owner).__mro__ if name in vars(cls))
    if patient.chance.random() < 0.5:
        cls = type(owner)  # gets a method of its own where it had none
    patient.replace(cls, name, _wrapped(getattr(cls, name)))
    return f"{cls.__name__}.{name}"


@_kind
def _code_of_a_function(patient: Patient) -> str:
    function = type(patient.model.transformer.layers[0].mlp[1]).forward

    def forward(self: Any, x: Any) -> Any:
        return x.chunk(2, dim=-1)[0]

    patient.undo.callback(setattr, function, "__code__", function.__code__)
    function.__code__ = forward.__code__
    return "the gate's forward"


@_kind
def _function_of_a_module(patient: Patient) -> str:
    modules = {name.rpartition(".")[2]: module for name, module in patient.tree.modules().items()}
    owner, name = patient.chance.choice(
        [(modules["attention"], "scaled_dot_product_attention"), (modules["rope"], "apply_rotary_emb"), (F, "silu")]
    )
    patient.replace(owner, name, _wrapped(getattr(owner, name)))
    return f"{owner.__name__}.{name}"


@_kind
def _hook(patient: Patient) -> str:
    path, module = patient.module("Linear", "RMSNorm", "SwiGLU", "Sequential", "Dropout", "TransformerLayer")
    how = patient.chance.choice(["after", "before", "with keywords"])
    if how == "before":
        module.register_forward_pre_hook(lambda _, args: _smaller(args))
    elif how == "after":
        module.register_forward_hook(lambda _, args, out: _smaller(out))
    else:
        module.register_forward_hook(lambda _, args, kwargs, out: _smaller(out), with_kwargs=True)
    return f"{how} {path}"


@_kind
def _hook_of_all_modules(patient: Patient) -> str:
    how = patient.chance.choice(["after", "before"])
    if how == "after":
        handle = hooks.register_module_forward_hook(
            lambda module, args, out: _smaller(out) if isinstance(module, nn.Linear) else None
        )
    else:
        handle = hooks.register_module_forward_pre_hook(
            lambda module, args: _smaller(args) if isinstance(module, nn.Linear) else None
        )
    patient.undo.callback(handle.remove)
    return how


@_kind
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


# -- modules -------------------------------------------------------------------------------------------------------


class Around(nn.Module):
    """A module around another, as adapters are."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Less than the module inside gives."""
        return _smaller(self.inner(*args, **kwargs))


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


@_kind
def _module_inside_another(patient: Patient) -> str:
    path, module = patient.module("Linear", "Sequential", "RMSNorm", "SwiGLU", "PatchEmbedding")
    patient.put(path, Around(module))
    return path


@_kind
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


@_kind
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


@_kind
def _subclass_of_the_same_name(patient: Patient) -> str:
    path, owner, name = _method(patient)
    cls = type(owner)
    owner.__class__ = type(cls.__name__, (cls,), {name: _wrapped(getattr(cls, name)), "__module__": cls.__module__})
    return f"{path}, with another {name}"


@_kind
def _parametrized(patient: Patient) -> str:
    path, module = patient.module("Linear")
    parametrizations.weight_norm(module).eval()
    with torch.no_grad():
        module.parametrizations.weight.original0.mul_(0.6)
    return path


# -- dtypes, data, the run itself ----------------------------------------------------------------------------------


@_kind
def _dtype_of_the_model(patient: Patient) -> str:
    patient.dtype = patient.chance.choice([torch.float64, torch.bfloat16])
    patient.model.to(patient.dtype)
    return str(patient.dtype)


@_kind
def _device_of_the_model(patient: Patient) -> str:
    """To the CPU and on a CPU to the device without memory, where upstream answers with an error."""
    elsewhere = "meta" if patient.device.type == "cpu" else "cpu"
    patient.model.to(elsewhere)
    patient.device = torch.device(elsewhere if elsewhere == "cpu" else patient.device)
    return elsewhere


@_kind
def _dtype_there_and_back(patient: Patient) -> str:
    patient.model.bfloat16()
    patient.model.to(patient.dtype)
    return "through bfloat16"


@_kind
def _series_with_nan(patient: Patient) -> str:
    """Upstream answers it with an error or with NaN; what counts are the forecasts after it."""
    with contextlib.suppress(Exception):
        patient.forecast(spoilt=True)
    return "and clean ones after it"


@_kind
def _interrupted(patient: Patient) -> str:
    """A forecast that an exception ends anywhere in the tree's own code, as a handler of a signal may raise it."""
    from toto_patcher.equivalence.surgery import interrupted

    part = patient.chance.random()
    interrupted(patient, part)
    return f"after {part:.0%} of the calls"


@_kind
def _rounds_of_one_sample(patient: Patient) -> str:
    """Samples one by one, so narrowly distributed that each is the mean: a round that spoils the next one shows."""
    head = patient.model.output_distribution
    with torch.no_grad():
        for part in (head.loc_proj.weight, head.loc_proj.bias):
            part.copy_(part[:1].expand_as(part))
        head.scale_proj.weight.zero_()
        head.scale_proj.bias.fill_(-14.0)
    if patient.chance.random() < 0.5:
        seed_exact(patient.forecaster)
    patient.extra["samples one by one"] = patient.forecast(samples=3, samples_per_batch=1)
    return "all alike"


@_kind
def _seed_again(patient: Patient) -> str:
    """After a weight changed, the same seed gives the same samples, at the first forecast too."""
    with torch.no_grad():
        patient.model.unembed.bias.add_(0.05)
    first, second = (patient.forecast(samples=4, samples_per_batch=4) for _ in range(2))
    patient.extra["the same seed, the same samples"] = torch.tensor(float(torch.equal(first, second)))
    return "after a weight changed"


@_kind
def _nothing(patient: Patient) -> str:
    model = patient.model
    model.requires_grad_(False)
    model.train().eval()
    model.unembed.register_forward_hook(lambda *_: None).remove()
    return "that counts"
