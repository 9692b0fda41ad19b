"""Changes to a model, its classes or torch, before the first forecast or after it; for the child of ``worker.py``.

Each is a function of a ``Patient``; whatever it does outside of the model it undoes by ``patient.undo``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.utils import parametrizations

from toto_patcher.equivalence.surgery.modules import SwiGLU

CHANGES: dict[str, tuple[Callable[[Patient], None], bool]] = {}


@dataclass
class Patient:
    """What a change may change.

    Attributes:
        tree: of ``worker.py``.
        forecaster: of a tiny model.
        undo: what is to be undone after the forecast.
        series: what is forecast.
    """

    tree: Any
    forecaster: Any
    undo: contextlib.ExitStack
    series: Any

    @property
    def model(self) -> Any:
        return self.forecaster.model

    @property
    def layers(self) -> Any:
        return self.model.transformer.layers

    @property
    def head(self) -> list[Any]:
        return [*self.model.unembed.parameters(), *self.model.output_distribution.parameters()]

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute until the end."""
        before = vars(owner)[name]
        setattr(owner, name, value)
        self.undo.callback(setattr, owner, name, before)


def change(decoded: bool) -> Callable[[Callable[[Patient], None]], Callable[[Patient], None]]:
    """A change, and whether the decoder still forecasts after it."""

    def add(function: Callable[[Patient], None]) -> Callable[[Patient], None]:
        CHANGES[function.__name__] = function, decoded
        return function

    return add


def scaled(original: Callable[..., Any]) -> Callable[..., Any]:
    """What a tracing library makes of a function, but not quite: halves of what it gives."""

    @functools.wraps(original)
    def half(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            return result * 0.5 if result.is_floating_point() else result
        if isinstance(result, tuple):
            return type(result)(*map(smaller, result)) if hasattr(result, "_fields") else tuple(map(smaller, result))
        return result

    return half


def smaller(part: Any) -> Any:
    return part * 0.5 if isinstance(part, torch.Tensor) and part.is_floating_point() else part


# -- values: read anew ---------------------------------------------------------------------------------------------


def _value(name: str, write: Callable[[Patient], None]) -> None:
    CHANGES[name] = write, True


@torch.no_grad()
def _each(parameters: list[Any], write: Callable[[Any], Any]) -> None:
    for parameter in parameters:
        write(parameter)


WRITES: dict[str, Callable[[Any], Any]] = {
    "in place": lambda p: p.mul_(0.7),
    "data in place": lambda p: p.data.mul_(0.7),
    "data replaced": lambda p: setattr(p, "data", p.data * 0.7),
    "data replaced twice": lambda p: [setattr(p, "data", p.data * 0.7) for _ in range(2)],
    "by numpy": lambda p: p.detach().numpy().__imul__(0.7),
    "reversed": lambda p: p.data.copy_(p.data.flip(-1)),
    "rows swapped": lambda p: p.data.copy_(p.data.flip(0)),
    "one number": lambda p: p.data.view(-1)[p.numel() // 3 :][:1].add_(1.0),
    "in inference mode": lambda p: torch.inference_mode()(lambda: p.mul_(0.7))(),
}
PLACES: dict[str, Callable[[Patient], list[Any]]] = {
    "head": lambda patient: patient.head,
    "layers": lambda patient: [parameter for layer in patient.layers for parameter in layer.parameters()],
    "embedding": lambda patient: list(patient.model.patch_embed.parameters()),
    "rotary": lambda patient: [patient.model.transformer.rotary_emb.freqs, patient.model.transformer.rotary_emb.scale],
}
COPIED = ("head", "rotary")
"""Of these the decoder keeps something computed; of the others it keeps views, or them."""
for _where, _find in PLACES.items():
    for _how, _write in list(WRITES.items())[: None if _where in COPIED else 4]:
        _value(f"{_where}: {_how}", lambda patient, find=_find, write=_write: _each(find(patient), write))

for _owner, _name, _new in (
    ("scaler", "scale_factor_exponent", 0.01),
    ("scaler", "minimum_scale", 5.0),
    ("scaler", "use_bessel_correction", False),
    ("scaler", "stabilize_with_global", False),
    ("transformer.rotary_emb", "interpolate_factor", 2.0),
    ("transformer.rotary_emb", "scale_base", 8),
):

    def _set(patient: Patient, owner: str = _owner, name: str = _name, new: Any = _new) -> None:
        target = functools.reduce(getattr, owner.split("."), patient.model)
        setattr(target, name, new)

    _value(f"{_owner}.{_name}", _set)


@change(decoded=True)
def eps(patient: Patient) -> None:
    for layer in patient.layers:
        layer.norm1.eps = layer.norm2.eps = 0.5


@change(decoded=True)
def new_parameters_twice(patient: Patient) -> None:
    for module in (patient.model.unembed, patient.model.output_distribution.df, patient.layers[0].mlp[0]):
        for _ in range(2):
            module.weight = nn.Parameter(module.weight.detach() * 0.7)


@change(decoded=True)
def foreach_and_optimizers(patient: Patient) -> None:
    parameters = list(patient.model.parameters())
    with torch.no_grad():
        torch._foreach_mul_(parameters, 1.1)
    for optimizer in (
        torch.optim.AdamW(parameters, lr=0.01, fused=True),
        torch.optim.SGD(parameters, 0.01, fused=True),
    ):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()


@change(decoded=True)
def state_loaded(patient: Patient) -> None:
    state = {name: value * 0.7 for name, value in patient.model.state_dict().items()}
    patient.model.load_state_dict(state)
    patient.model.load_state_dict({name: value * 0.7 for name, value in state.items()}, assign=True)


@change(decoded=True)
def narrower(patient: Patient) -> None:
    patient.model.float()
    patient.series = patient.series._replace(series=patient.series.series.float())


@change(decoded=True)
def transposed_in_memory(patient: Patient) -> None:
    for layer in patient.layers:
        layer.attention.wO.weight.data = layer.attention.wO.weight.data.t()


@change(decoded=True)
def what_changes_nothing(patient: Patient) -> None:
    patient.model.requires_grad_(False)
    patient.model.probe = nn.Linear(2, 2).eval()
    patient.model.note = "mine"
    patient.model.train().eval()
    patient.model.unembed.register_forward_hook(lambda *_: None).remove()
    type(patient.model).note = 3
    patient.undo.callback(delattr, type(patient.model), "note")


# -- code: left to upstream ----------------------------------------------------------------------------------------


def _left(name: str, write: Callable[[Patient], None]) -> None:
    CHANGES[name] = write, False


INSTANCES = (
    "unembed.forward", "transformer.forward", "patch_embed.forward", "patch_embed._patchify", "backbone",
    "output_distribution.forward", "output_distribution.df.forward", "transformer.layers.1.forward",
    "transformer.layers.1.mlp.forward", "transformer.layers.1.mlp.1.forward", "transformer.layers.1.norm2.forward",
    "transformer.layers.1.attention.positional_embedding", "transformer.layers.1.attention.wQKV.forward",
    "transformer.rotary_emb.forward", "transformer.rotary_emb.get_scale", "transformer._get_mask",
)  # fmt: skip
for _path in INSTANCES:

    def _instance(patient: Patient, path: str = _path) -> None:
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, patient.model)
        setattr(owner, name, scaled(getattr(owner, name)))

    _left(f"instance: {_path}", _instance)

METHODS = (
    ("inference.forecaster", "TotoForecaster", "generate_mean"),
    ("model.backbone", "TotoBackbone", "forward"),
    ("model.backbone", "TotoBackbone", "backbone"),
    ("model.transformer", "Transformer", "forward"),
    ("model.transformer", "TransformerLayer", "forward"),
    ("model.attention", "BaseMultiheadAttention", "get_qkv"),
    ("model.attention", "BaseMultiheadAttention", "run_attention"),
    ("model.attention", "BaseMultiheadAttention", "positional_embedding"),
    ("model.embedding", "PatchEmbedding", "forward"),
    ("model.feed_forward", "SwiGLU", "forward"),
    ("model.util", "RMSNorm", "forward"),
    ("model.util", "KVCache", "__getitem__"),
    ("model.rope", "TimeAwareRotaryEmbedding", "get_scale"),
    ("model.scaler", "CausalPatchStdMeanScaler", "__call__"),
    ("model.scaler", "", "compute_causal_statistics"),
    ("inference.forecaster", "", "replace_extreme_values"),
    ("data.util.dataset", "", "replace_extreme_values"),
    ("inference.forecaster", "", "pad_array"),
    ("model.attention", "", "scaled_dot_product_attention"),
    ("model.rope", "", "apply_rotary_emb"),
)
for _module, _class, _method in METHODS:

    def _replace(patient: Patient, module: str = _module, owner: str = _class, method: str = _method) -> None:
        target = patient.tree.module(module)
        target = getattr(target, owner) if owner else target
        patient.put(target, method, scaled(vars(target)[method]))

    _left(f"replaced: {_module}.{_class}.{_method}", _replace)

for _target, _name in (
    (nn.Linear, "forward"),
    (nn.Sequential, "forward"),
    (F, "silu"),
    (F, "softmax"),
    (nn.Dropout, "forward"),
):

    def _torch(patient: Patient, target: Any = _target, name: str = _name) -> None:
        patient.put(target, name, scaled(vars(target)[name]))

    _left(f"torch's own: {_target.__name__}.{_name}", _torch)


@change(decoded=False)
def code_in_the_same_function(patient: Patient) -> None:
    function = patient.tree.module("model.feed_forward").SwiGLU.forward

    def forward(self: Any, x: Any) -> Any:
        return x.chunk(2, dim=-1)[0]

    patient.undo.callback(setattr, function, "__code__", function.__code__)
    function.__code__ = forward.__code__


@change(decoded=False)
def cache_of_another_class(patient: Patient) -> None:
    backbone = patient.tree.module("model.backbone")

    class Coarse(backbone.KVCache):  # type: ignore[misc, name-defined]
        def append(self, index: int, kv: Any) -> None:
            super().append(index, tuple((part * 4).round() / 4 for part in kv))

    patient.put(backbone, "KVCache", Coarse)


@change(decoded=False)
def methods_of_upstreams_names(patient: Patient) -> None:
    base = type(patient.forecaster)

    class TotoForecaster(base):  # type: ignore[misc, valid-type]
        def generate_mean(self, *args: Any, **kwargs: Any) -> Any:
            return super().generate_mean(*args, **kwargs) + 100.0

    patient.forecaster.__class__ = TotoForecaster


@change(decoded=False)
def backbone_of_upstreams_name(patient: Patient) -> None:
    base = type(patient.model)

    class TotoBackbone(base):  # type: ignore[misc, valid-type]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            return output._replace(loc=output.loc + 7.0)

    patient.model.__class__ = TotoBackbone


@change(decoded=False)
def property_in_a_childs_place(patient: Patient) -> None:
    cls = type(patient.model.transformer)
    cls.layers = property(lambda self: list(self._modules["layers"])[:1])
    patient.undo.callback(delattr, cls, "layers")


@change(decoded=False)
def global_hook(patient: Patient) -> None:
    hooks = torch.nn.modules.module
    handle = hooks.register_module_forward_hook(lambda m, _, out: out * 0.9 if isinstance(m, nn.Linear) else None)
    patient.undo.callback(handle.remove)


@change(decoded=False)
def global_pre_hook(patient: Patient) -> None:
    hooks = torch.nn.modules.module
    handle = hooks.register_module_forward_pre_hook(
        lambda m, args: (args[0] * 0.9,) if isinstance(m, nn.Linear) else None
    )
    patient.undo.callback(handle.remove)


@change(decoded=False)
def hook_before_a_layer(patient: Patient) -> None:
    patient.layers[1].mlp.register_forward_pre_hook(lambda _, args: (args[0] * 0.5,))


@change(decoded=False)
def hook_on_a_gate(patient: Patient) -> None:
    patient.layers[1].mlp[1].register_forward_hook(lambda m, args, kwargs, out: out * 0.5, with_kwargs=True)


@change(decoded=False)
def parametrized(patient: Patient) -> None:
    parametrizations.weight_norm(patient.layers[0].attention.wO).eval()
    patient.layers[0].attention.wO.parametrizations.weight.original0.data.mul_(0.5)


class Around(nn.Module):
    """A module around another, as adapters are."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs) * 1.5


class LayerAround(Around):
    """The same around a layer, which upstream asks for more."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.attention, self.attention_axis, self.num_heads = inner.attention, inner.attention_axis, inner.num_heads


class Embedding(nn.Module):
    """A patch embedding of another build."""

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.patch_size, self.stride, self.inner = old.patch_size, old.stride, old.projection

    def forward(self, x: Any, ids: Any) -> Any:
        return self.inner(x.unfold(-1, self.patch_size, self.stride)) * 0.5, ids.unfold(
            -1, self.patch_size, self.stride
        )[..., 0]


class RMSNorm(nn.Module):
    """Upstream's name, attributes and weights, and another norm."""

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.scale, self.eps = old.scale, old.eps

    def forward(self, x: Any) -> Any:
        return x * self.scale


def _put(path: str, new: Callable[[Any], Any]) -> Callable[[Patient], None]:
    """Puts a module in the place of another, which it is given."""

    def do(patient: Patient) -> None:
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, patient.model)
        torch.manual_seed(3)
        setattr(owner, name, new(getattr(owner, name)).eval())

    return do


LAYER = "transformer.layers.1"
MODULES: dict[str, Callable[[Patient], Any]] = {
    **{
        f"{path} inside another": _put(path, Around)
        for path in ("unembed", "patch_embed.projection", "output_distribution.df", f"{LAYER}.mlp", f"{LAYER}.mlp.0")
    },
    "attention.wQKV inside another": _put(f"{LAYER}.attention.wQKV", Around),
    "layer inside another": _put(LAYER, LayerAround),
    "patch_embed of another build": _put("patch_embed", Embedding),
    "norm2 is torch's LayerNorm": _put(f"{LAYER}.norm2", lambda _: nn.LayerNorm(64)),
    "norm1 is torch's RMSNorm": _put(f"{LAYER}.norm1", lambda _: nn.RMSNorm(64, eps=0.5)),
    "norm1 of upstream's name": _put(f"{LAYER}.norm1", RMSNorm),
    "norm2 of upstream's name": _put(f"{LAYER}.norm2", RMSNorm),
    "gate of upstream's name": _put(f"{LAYER}.mlp.1", lambda _: SwiGLU()),
    "a layer in dropout's place": _put(f"{LAYER}.mlp.3", lambda _: nn.Linear(64, 64)),
    "mlp with one more": lambda patient: patient.layers[1].mlp.append(nn.Linear(64, 64).eval()),
    "mlp with one less": _put(f"{LAYER}.mlp", lambda mlp: nn.Sequential(*list(mlp)[:3])),
    "linear without bias": lambda patient: setattr(patient.layers[1].attention.wO, "bias", None),
    "quantised": lambda patient: (narrower(patient), quantize_dynamic(patient.model, {nn.Linear}, inplace=True)),
    "another scaler": lambda patient: setattr(
        patient.model, "scaler", patient.tree.module("model.scaler").StdMeanScaler()
    ),
    "scaler of upstream's name": lambda patient: _rename(patient.model.scaler, "__call__"),
    "linear of torch's name": lambda patient: _rename(patient.model.output_distribution.df, "forward"),
}
for _name, _write in MODULES.items():
    _left(_name, _write)


def _rename(owner: Any, method: str) -> None:
    """Makes it one of a subclass of the same name whose method gives half."""
    cls = type(owner)
    members = {method: scaled(getattr(cls, method)), "__module__": cls.__module__}
    owner.__class__ = type(cls.__name__, (cls,), members)


@change(decoded=False)
def functions_changed_by_the_caller(patient: Patient) -> None:
    class Half(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            return result * 0.5 if function is F.silu else result

    patient.undo.enter_context(Half())


class NoDecoder:
    """Leaves every forecast to upstream's code."""

    def forecast(self, *_: Any) -> None:
        return None


def answers(tree: Any) -> Any:
    """For every change, before the first forecast and after it: means or errors, upstream's own, and what was told.

    All is in float64, so that no rounding is taken for a change. Changed values are read through views, too, as
    compiled code reads them; nothing is compiled.
    """
    torch.set_default_dtype(torch.float64)
    try:
        return _answers(tree)
    finally:
        torch.set_default_dtype(torch.float32)


def _answers(tree: Any) -> Any:
    found: dict[str, Any] = {}
    for name, (write, decoded) in CHANGES.items():
        of_values = ":" in name and decoded
        for when in ("after", "after, by views") if of_values else ("before", "after"):
            torch.manual_seed(0)
            model = tree.model(num_layers=2, spacewise_every_n_layers=2)
            _each([p for p in model.parameters() if p.ndim == 2], lambda p: p.mul_(2.0))  # so that all of it matters
            forecaster = tree.module("inference.forecaster").TotoForecaster(model.model)
            with contextlib.ExitStack() as undo:
                series = tree.series(40, 2)
                patient = Patient(tree, forecaster, undo, series._replace(series=series.series.double()))
                if when == "after, by views":
                    patient.put(torch, "compile", lambda function, **_: function)
                    forecaster.compile(mode=None, backend="eager")
                if when != "before":
                    _values(patient)
                write(patient)
                values, told = _values(patient), sorted(forecaster._decoding()._told)
                vars(forecaster)["_kept_decoding"] = NoDecoder()
                found[f"{name}, {when}"] = {
                    "values": values, "upstream": _values(patient), "told": told, "decoded": decoded,
                    "rounded": patient.series.series.dtype == torch.float32,
                }  # fmt: skip
    return found


def _values(patient: Patient) -> Any:
    """Of a horizon for which the head is folded."""
    try:
        return patient.forecaster.forecast(patient.series, 64).mean.flatten().tolist()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
